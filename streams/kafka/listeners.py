"""Whether brokers can be reached where they say they are, which need not be where they were met."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

PROBE_S = 3.0
"""For an address to take a connection."""


async def first_answering(servers: Sequence[str]) -> str:
    """Return the first address that takes a connection: aiokafka would wait 40 s for each dead host of a list.

    Raises
    ------
    OSError
        Where none does.
    """
    attempts = [asyncio.create_task(_greet(server)) for server in servers]
    refusals = []
    try:
        for attempt in asyncio.as_completed(attempts):
            try:
                return await attempt
            except OSError as error:
                refusals.append(str(error))
    finally:
        for task in attempts:
            task.cancel()
    raise OSError("; ".join(refusals))


def advertised(client: Any) -> list[str]:
    """Return the addresses at which the brokers say they are; none where the client has not learned of any yet.

    Parameters
    ----------
    client
        A client of aiokafka: a producer has its connection in a public attribute, the others in a private one.
    """
    connection = client.client if hasattr(client, "client") else client._client  # noqa: SLF001
    known = [each for each in connection.cluster.brokers() if not str(each.nodeId).startswith("bootstrap")]
    return sorted({f"{broker.host}:{broker.port}" for broker in known})


async def stray(servers: Sequence[str]) -> list[str]:
    """Return the addresses that take no connection, each with the reason."""
    reasons = await asyncio.gather(*map(_refusal, servers))
    return [f"{server} ({reason})" for server, reason in zip(servers, reasons, strict=True) if reason]


async def _refusal(server: str) -> str:
    try:
        async with asyncio.timeout(PROBE_S):
            await _greet(server)
    except TimeoutError:
        return f"no answer within {PROBE_S:g} s"
    except OSError as error:
        return error.strerror or str(error)
    return ""


async def _greet(server: str) -> str:
    host, _, port = server.rpartition(":")
    _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.close()
    return server
