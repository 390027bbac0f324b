"""What workers tell of themselves: readiness and lag, asked over HTTP as an orchestrator and Prometheus do."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import urlopen

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from tests.fleet import Workers

ADDRESS = re.compile(r"metrics on (http://\S+)/metrics")
LAG = re.compile(r'^driftline_consumer_lag_records\{partition="(\d+)",topic="(.+)"\} (\S+)$', re.MULTILINE)
POLL_S = 0.25
PROBE_TIMEOUT_S = 1.0
"""Kubernetes' default."""

Lags = dict[tuple[int, int], float]
"""Lag by process id and partition."""


class View:
    """The workers of one run, seen from outside.

    Parameters
    ----------
    workers
        Whom to ask.
    topic, partitions
        What they read.
    """

    def __init__(self, workers: Workers, topic: str, partitions: int) -> None:
        self._workers, self._topic, self._partitions = workers, topic, partitions

    async def ask(self, process: subprocess.Popen[bytes], path: str) -> tuple[int, str]:
        """Status and body of an answer; status 0 where there is none."""
        return await asyncio.to_thread(_get, self._workers.logs[process.pid], path)

    async def unready(self) -> dict[int, str]:
        """Why workers are not ready, by process id."""
        running = list(self._workers.running)
        answers = await asyncio.gather(*(self.ask(process, "/readyz") for process in running))
        return {
            process.pid: body or "no answer"
            for process, (status, body) in zip(running, answers, strict=True)
            if status != 200
        }

    async def lags(self) -> Lags:
        """Lag of every partition, as each of its owners tells it."""
        running = list(self._workers.running)
        answers = await asyncio.gather(*(self.ask(process, "/metrics") for process in running))
        return {
            (process.pid, int(partition)): float(lag)
            for process, (_, body) in zip(running, answers, strict=True)
            for partition, topic, lag in LAG.findall(body)
            if topic == self._topic
        }

    async def all_lags(self, within_s: float) -> Lags:
        """Lag of every partition, once every one is told."""
        lags: Lags = {}

        async def is_whole() -> bool:
            lags.clear()
            lags.update(await self.lags())
            return {partition for _, partition in lags} == set(range(self._partitions))

        await until(is_whole, within_s, "a partition's lag is not told")
        return lags

    async def settled(self, within_s: float) -> None:
        """Wait until all workers are ready and every partition has one owner."""

        async def is_settled() -> bool:
            return not await self.unready() and self._is_whole(await self.lags())

        await until(is_settled, within_s, "not all workers are ready, or a partition has no owner")

    async def consuming(self, since: float, within_s: float) -> float:
        """Seconds from a moment until every partition has one owner, and every owner is ready and reads on.

        It is at most so long; an owner without lag has nothing to read. Which of its partitions an owner reads first is
        its own business: with a long log behind, each has its turn only after some seconds.

        Raises
        ------
        AssertionError
            Where it takes longer than it may.
        """
        first: Lags = {}
        reading: set[int] = set()

        async def is_consuming() -> bool:
            now = await self.lags()
            if await self.unready():
                first.clear()
                reading.clear()
                return False
            owners = {pid for pid, _ in now}
            reading.update(
                pid for (pid, partition), lag in now.items() if lag < first.setdefault((pid, partition), lag)
            )
            reading.update(owner for owner in owners if not any(lag for (pid, _), lag in now.items() if pid == owner))
            return self._is_whole(now) and owners <= reading

        await until(is_consuming, since + within_s - time.monotonic(), "a worker does not read on")
        return time.monotonic() - since

    def _is_whole(self, lags: Iterable[tuple[int, int]]) -> bool:
        return sorted(partition for _, partition in lags) == list(range(self._partitions))


async def until(is_true: Callable[[], Awaitable[bool]], within_s: float, complaint: str) -> None:
    """Wait for something that can only be asked for.

    Raises
    ------
    AssertionError
        The complaint, where it takes longer.
    """
    started = time.monotonic()
    while not await is_true():
        assert time.monotonic() - started < within_s, f"{complaint} after {within_s:.0f} s"
        await asyncio.sleep(POLL_S)


def _get(log: Path, path: str) -> tuple[int, str]:
    address = ADDRESS.search(log.read_text(encoding="utf-8", errors="replace"))
    if address is None:
        return 0, "not up yet"
    try:
        with urlopen(address[1] + path, timeout=PROBE_TIMEOUT_S) as answer:  # noqa: S310 - our own worker's
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)
