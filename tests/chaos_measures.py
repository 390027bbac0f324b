"""Faults whose bar is a number of seconds or an exit code, besides the outcome."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from tests.chaos_faults import SLOW
from tests.chaos_stage import EQUAL, SMALL, Fault, Log, Size, Stage, small_log, standard_log
from tests.chaos_view import until
from tests.chaos_worker import MARK

if TYPE_CHECKING:
    from driftline.streams.config.settings import Settings

SHIPPED = {"DRIFTLINE_WORKER__SESSION_TIMEOUT_S": "10", "DRIFTLINE_WORKER__SNAPSHOT_INTERVAL_S": "10"}
"""The suite's own settings are shorter, so that more happens in the same time."""

IDLE_FOR_S = 20.0
"""Longer than a worker that stands still stays ready."""


async def narrow_log(settings: Settings, _size: Size) -> Log:
    """Four partitions."""
    return await standard_log(settings, SMALL._replace(partitions=4))


async def spares(stage: Stage) -> str:
    """Six workers on four partitions: two have nothing to do, and must be ready all the time to take over."""
    for _ in range(6):
        stage.workers.start()
    await stage.view.settled(within_s=90)
    takes_s = []
    for _ in range(2):
        owners = {pid for pid, _ in await stage.view.lags()}
        busy = [process for process in stage.workers.running if process.pid in owners]
        stage.workers.kill(stage.random.choice(busy))
        takes_s.append(await stage.view.consuming(since=time.monotonic(), within_s=30))
    for _ in range(2):
        stage.workers.start()
    await stage.view.settled(within_s=90)
    idle = {process.pid for process in stage.workers.running} - {pid for pid, _ in await stage.view.lags()}
    started, probes = time.monotonic(), 0
    while time.monotonic() - started < IDLE_FOR_S:
        unready = await stage.view.unready()
        assert not idle & unready.keys(), f"an idle worker is not ready: {unready}"
        probes += 1
        await asyncio.sleep(0.5)
    took = " and ".join(f"{each:.1f}" for each in takes_s)
    return f"2 kills, taken over after {took} s; {len(idle)} idle workers ready in all of {probes} probes"


async def members(stage: Stage) -> str:
    """kill -9 of a worker with a name of its own, which comes back at once; then of one without, which does not."""
    stage.workers.start(DRIFTLINE_WORKER__INSTANCE_ID="one")
    named = stage.workers.start(DRIFTLINE_WORKER__INSTANCE_ID="two")
    nameless = stage.workers.start()
    await stage.view.settled(within_s=60)
    before = {partition for pid, partition in await stage.view.lags() if pid == named.pid}
    stage.workers.kill(named)
    started = time.monotonic()
    named = stage.workers.start(DRIFTLINE_WORKER__INSTANCE_ID="two")
    back_s = await stage.view.consuming(started, within_s=20)
    after = {partition for pid, partition in await stage.view.lags() if pid == named.pid}
    stage.workers.kill(nameless)
    started, left = time.monotonic(), await stage.lag()
    taken_s = await stage.view.consuming(started, within_s=20)
    return (
        f"started again: after {back_s:.1f} s, with {len(before & after)} of its {len(before)} partitions; "
        f"not replaced: after {taken_s:.1f} s, {left}"
    )


async def told_to_stop_without_kafka(stage: Stage) -> str:
    """SIGTERM while no broker answers, to one worker at once, and to the other when the first has ended."""
    for _ in range(2):
        stage.workers.start()
    await stage.view.settled(within_s=60)
    left = await stage.lag()
    await stage.kafka("kill")
    ends = []
    for _ in range(2):
        started = time.monotonic()
        code = await asyncio.to_thread(stage.workers.leave, stage.workers.running[0])
        ends.append(f"{code} after {time.monotonic() - started:.1f} s")
        assert code == 3, f"exit code {code} at SIGTERM without Kafka"
    await stage.kafka("start")
    stage.workers.start()
    return f"exit codes {' and '.join(ends)}; {left} before"


async def stuck(stage: Stage, way: str) -> str:
    """A worker that stands still: from when on it is not ready, and when it ends."""
    process = stage.workers.start(way)
    log = stage.workers.logs[process.pid]

    async def stands_still() -> bool:
        return MARK in log.read_text(encoding="utf-8", errors="replace")

    async def is_unready() -> bool:
        return process.pid in await stage.view.unready()

    async def has_ended() -> bool:
        return process.poll() is not None

    await until(stands_still, 60, "no records came")
    started = time.monotonic()
    await until(is_unready, 30, "ready, though it stands still,")
    unready_s = time.monotonic() - started
    await until(has_ended, 60 - unready_s, "not ended, though it stands still,")
    ended_s = time.monotonic() - started
    assert process.returncode == 70, f"exit code {process.returncode}"
    stage.workers.running.remove(process)
    stage.workers.start()
    return f"not ready after {unready_s:.1f} s, exit 70 after {ended_s:.1f} s"


def _watched(name: str, title: str, way: str) -> Fault:
    bar = f"not ready within 30 s, exit 70 within 60 s, then {EQUAL}"
    return Fault(name, title, bar, partial(stuck, way=way), waits=True, log=small_log)


FAULTS = (
    Fault(
        "spares",
        "6 workers on 4 partitions, kill -9 of a busy one, twice",
        f"{EQUAL}, idle workers stay ready",
        spares,
        log=narrow_log,
    ),
    Fault(
        "members",
        "kill -9 of one of 3 workers, with worker.instance_id and started again at once; of another, not replaced; "
        "shipped timeout and interval",
        f"{EQUAL}, its partitions consumed again within 20 s",
        members,
        environment=SHIPPED | SLOW,
    ),
    Fault(
        "term-away",
        "SIGTERM while Kafka is away",
        f"{EQUAL} after its return, exit 3 within 25 s",
        told_to_stop_without_kafka,
        waits=True,
        log=small_log,
    ),
    _watched("stuck-loop", "a worker's event loop is blocked", "blocked_loop"),
    _watched("stuck-consumer", "a worker's consumer hands over nothing", "stuck_consumer"),
    _watched("stuck-changelog", "a worker's snapshots are never acknowledged", "stuck_changelog"),
    Fault(
        "stuck-control",
        "control: the consumer hands over nothing, the watchdog is off",
        "must stay",
        partial(stuck, way="stuck_consumer_unwatched"),
        must_show="not ended",
        waits=True,
        log=small_log,
    ),
)
