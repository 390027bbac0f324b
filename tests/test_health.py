from __future__ import annotations

import asyncio
import re
import socket
from contextlib import ExitStack, closing

import aiohttp
import pytest

from driftline.detectors.errors import OperatorError
from driftline.streams.observability import health
from driftline.streams.observability.health import PORTS, serving
from driftline.streams.observability.metrics import Metrics


async def served(host: str, port: int | None) -> int:
    """Serve, ask once, and return the port."""
    async with (
        serving(Metrics("1.0"), lambda: None, host, port) as found,
        aiohttp.ClientSession() as session,
        session.get(f"http://{host}:{found}/readyz") as answer,
    ):
        assert answer.status == 200
        return found


def listener(port: int = 0) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


def test_where_no_port_was_asked_for_the_next_free_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(closing(listener())).getsockname()[1]
        monkeypatch.setattr(health, "PORTS", range(first, first + 20))
        found = asyncio.run(served("127.0.0.1", None))
    assert first < found < first + 20


def test_two_workers_without_a_port_serve_side_by_side() -> None:
    async def both() -> tuple[int, int]:
        async with (
            serving(Metrics("1.0"), lambda: None, "127.0.0.1", None) as one,
            serving(Metrics("1.0"), lambda: None, "127.0.0.1", None) as other,
        ):
            return one, other

    one, other = asyncio.run(both())
    assert one != other
    assert {one, other} <= set(PORTS)


def test_a_port_that_was_asked_for_and_is_taken_is_refused_by_its_key() -> None:
    with closing(listener()) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OperatorError, match=rf"worker\.metrics_port = {port}: is taken on 127\.0\.0\.1"):
            asyncio.run(served("127.0.0.1", port))


def test_when_all_ports_are_taken_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(listener()) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(health, "PORTS", range(port, port + 1))
        with pytest.raises(OperatorError, match=rf"ports {port} to {port} are taken"):
            asyncio.run(served("127.0.0.1", None))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_refused_by_its_key(host: str) -> None:
    with pytest.raises(OperatorError, match=re.escape(f"worker.metrics_host = {host!r}")):
        asyncio.run(served(host, 0))
