"""What a fault acts on, what it may bring along, and how its outcome is judged."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.chaos_log import Fleet, build_fleet
from tests.chaos_view import View
from tests.fleet import Outcome, Workers, differences, expected, publish, verdicts_complete

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from random import Random

    from driftline.streams.config.settings import Settings

KAFKA = Path(__file__).parents[1] / "scripts" / "kafka"
EQUAL = "equal"


class Size(NamedTuple):
    """How large a log is."""

    records: int
    models: int
    partitions: int


ONE_AT_A_TIME = threading.Lock()
SMALL = Size(200_000, 16, 8)


class Log(NamedTuple):
    """A log on the broker, and what an undisturbed run makes of it."""

    fleet: Fleet
    wanted: Outcome


async def standard_log(settings: Settings, size: Size) -> Log:
    """Topics made, baselines and log published; the outcome is computed once for all brokers."""
    log = await asyncio.to_thread(undisturbed, size, settings.topics.predictions)
    await log.fleet.create_topics(settings)
    await publish(settings, log.fleet.baselines, log.fleet.log(settings.topics.predictions))
    return log


async def small_log(settings: Settings, _size: Size) -> Log:
    """For faults whose bar is a time or an exit code: the quick run's log, whatever the size asked for."""
    return await standard_log(settings, SMALL)


def undisturbed(size: Size, topic: str) -> Log:
    """The log of that size, and its outcome computed in this process; once, whichever lane asks first.

    The topic is a part of the ids of alerts about single records.
    """
    with ONE_AT_A_TIME:
        return _undisturbed(size, topic)


@cache
def _undisturbed(size: Size, topic: str) -> Log:
    print(f"making {size.records:,} records and their undisturbed outcome ...", file=sys.stderr, flush=True)
    fleet = build_fleet(*size)
    log = Log(fleet, expected(fleet.watch, fleet.log(topic)))
    print(f"wanted: {log.wanted.digest()[:16]}, {len(log.wanted.verdicts)} verdicts", file=sys.stderr, flush=True)
    return log


@dataclass
class Stage:
    """What a fault acts on."""

    workers: Workers
    settings: Settings
    kafka_directory: Path
    random: Random
    fleet: Fleet
    wanted: Outcome
    ended: list[int] = field(default_factory=list)
    """Exit codes of the workers that ended by themselves."""

    async def kafka(self, *arguments: str) -> None:
        """Run ``scripts/kafka`` on this fault's brokers."""
        await asyncio.to_thread(run_kafka, self.kafka_directory, *arguments)

    @property
    def view(self) -> View:
        """The workers, seen from outside."""
        return View(self.workers, self.settings.topics.predictions, self.fleet.partitions)

    async def lag(self) -> str:
        """How many records are left, in words, once every partition tells it.

        Raises
        ------
        AssertionError
            Where there are none: the scenario came too late to show anything.
        """
        left = sum((await self.view.all_lags(within_s=30)).values())
        assert left, "nothing was left to consume: this shows nothing"
        return f"{left:,.0f} records left"

    async def replace_dead(self) -> int:
        """Start a worker for each that has ended by itself, as an orchestrator would; how many."""
        dead = [process for process in self.workers.running if process.poll() is not None]
        for process in dead:
            self.workers.running.remove(process)
            self.workers.start()
            self.ended.append(int(process.returncode))
        return len(dead)

    @asynccontextmanager
    async def orchestrated(self) -> AsyncIterator[None]:
        """Replace workers that end by themselves, for as long as the block runs."""

        async def replace() -> None:
            while True:
                await self.replace_dead()
                await asyncio.sleep(1)

        replacing = asyncio.create_task(replace())
        try:
            yield
        finally:
            replacing.cancel()
            with suppress(asyncio.CancelledError):
                await replacing

    async def finish(self, within_s: float) -> None:
        """Wait for all verdicts, replacing workers that end by themselves."""
        started = time.monotonic()
        async with self.orchestrated():
            while True:
                try:
                    return await verdicts_complete(self.settings, self.wanted, within_s=10)
                except TimeoutError:
                    if time.monotonic() - started > within_s:
                        raise


def run_kafka(directory: Path, *arguments: str) -> str:
    """Run ``scripts/kafka``; what it prints."""
    command = [sys.executable, str(KAFKA), *arguments, "--dir", str(directory)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


async def equal(stage: Stage, found: Outcome) -> list[str]:
    """What is not equal to the undisturbed run, in words."""
    return differences(stage.wanted, found)


@dataclass(frozen=True)
class Fault:
    """One scenario: its name, its line in the table, and what differs from the usual.

    ``run`` disturbs workers that it starts, and tells what it did; an ``AssertionError`` is a bar not held. ``log``
    makes the topics that the settings name, publishes, and tells what must come out; the result is shared by all faults
    with the same ``log`` on the same brokers, each of which reads it under a group of its own. ``check`` tells the
    problems of an outcome. A control holds if one of its problems shows ``must_show``, a regular expression. One that
    ``waits`` most of its time is shown beside the others.
    """

    name: str
    title: str
    bar: str
    run: Callable[[Stage], Awaitable[str]]
    seeds: int = 1
    within_s: float = 120.0
    must_show: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    brokers: int = 1
    tampered: str | None = None
    waits: bool = False
    log: Callable[[Settings, Size], Awaitable[Log]] = standard_log
    check: Callable[[Stage, Outcome], Awaitable[list[str]]] = equal
