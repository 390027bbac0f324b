"""Scenarios about time: services with wrong clocks, and partitions that fall silent."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from driftline.detectors.documents.partials import Partial
from driftline.detectors.plan import plan_from
from driftline.streams.formats import wire
from tests.chaos_input import CENTURY_MS, MAX_AHEAD_MS, Disturbed, Tally, Value
from tests.chaos_log import LATENESS_MS, START_MS, WINDOW_MS, Fleet, build_fleet, compact
from tests.chaos_stage import EQUAL, Fault, Log, Size, Stage, equal
from tests.chaos_view import until
from tests.fleet import Outcome, expected, publish, records_on, states_saved, verdicts_complete
from tests.logs import watching
from tests.onlooker import Onlooker, by_label, read
from tests.test_event_times import SPELLINGS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from driftline.streams.config.settings import Settings

SPELL = list(SPELLINGS.values())
BAD_SHARE = 0.02
IDLE_AFTER_S = 3.0
JUDGING_S = 2.0
"""Two ticks of a worker, the way through both stages, and a thousand verdicts."""


def _shown_ms(at_ms: int, draw: float, *, may_lead: bool) -> int:
    """What a service's clock shows when it is so late: right mostly; a century ahead, before 1970, or at the bound."""
    if draw < BAD_SHARE / 2:
        return at_ms + CENTURY_MS
    if draw < BAD_SHARE:
        return -1_000 - at_ms
    return at_ms + MAX_AHEAD_MS if may_lead and draw > 1 - BAD_SHARE / 4 else at_ms


@dataclass
class Clocks(Disturbed):
    """A log whose times are told by wrong clocks."""

    read_ms: list[list[int]] = field(default_factory=list)
    """What each record's clock showed, before it was written down in some unit."""


def with_wrong_clocks(origin: Fleet) -> Clocks:
    """Every record's time in another unit, some wrong; clocks that lead by the bound write to odd partitions only.

    The broker's own, by which it stamps them, is right.
    """
    rng, reasons = np.random.default_rng(15), Counter[str]()
    values: list[list[Value]] = []
    read: list[list[int]] = []
    for partition, (*records, last) in enumerate(origin.values):
        draws, units = rng.random(len(records)).tolist(), rng.integers(len(SPELL), size=len(records)).tolist()
        shown = [
            _shown_ms(at_ms, draw, may_lead=partition % 2 == 1) for (at_ms, _), draw in zip(records, draws, strict=True)
        ]
        told = [
            (at_ms, compact(orjson.loads(value or b"") | {"timestamp": SPELL[unit](read_ms)}))
            for (at_ms, value), read_ms, unit in zip(records, shown, units, strict=True)
        ]
        reasons["ahead"] += sum(
            read_ms > at_ms + MAX_AHEAD_MS for (at_ms, _), read_ms in zip(records, shown, strict=True)
        )
        reasons["bad_timestamp"] += sum(read_ms < 0 for read_ms in shown)
        values.append([*told, last])
        read.append([*shown, last[0]])
    return Clocks(**vars(Disturbed.of(origin, values, reasons)), read_ms=read)


async def clocks_log(settings: Settings, size: Size) -> Log:
    """The log under wrong clocks."""
    fleet = with_wrong_clocks(build_fleet(*size))
    wanted = await asyncio.to_thread(expected, fleet.watch, fleet.log(settings.topics.predictions))
    await fleet.create_topics(settings)
    await publish(settings, fleet.baselines, fleet.log(settings.topics.predictions))
    return Log(fleet, wanted)


async def _closed(stage: Stage) -> AsyncIterator[Partial]:
    """Partials of windows that were closed: those whose next mark does not say that the partition was merely idle."""
    waiting: dict[tuple[int, int], list[Partial]] = {}
    async for record in records_on(stage.settings, stage.settings.topics.partials):
        item = wire.decode_stage_two(record.value)
        place = record.partition, item.partition
        if isinstance(item, Partial):
            waiting.setdefault(place, []).append(item)
            continue
        for each in waiting.pop(place, []) if not item.idle else ():
            yield each
        waiting.pop(place, None)


async def clocks(stage: Stage) -> str:
    """One worker; nothing may close before the right clocks say so, and nothing lead by more than the bound."""
    fleet = stage.fleet
    assert isinstance(fleet, Disturbed)
    process = stage.workers.start()
    await verdicts_complete(stage.settings, stage.wanted, 300)
    await states_saved(stage.settings, fleet.log_ends(), 60)
    counted = by_label(
        await Onlooker(process, stage.workers.logs[process.pid]).metrics(), "records_rejected_total", "reason"
    )
    assert counted == fleet.reasons, f"counted {counted}, {fleet.reasons} were sent"
    highest_ms = [np.maximum.accumulate([at_ms for at_ms, _ in records]) for records in fleet.values]
    early, leads = 0, [0]
    async for item in _closed(stage):
        due_ms = item.start_ms + WINDOW_MS + LATENESS_MS
        lead_ms = due_ms - int(highest_ms[item.partition][item.upto - 1])
        leads.append(lead_ms)
        early += lead_ms > (MAX_AHEAD_MS if item.partition % 2 else 0)
    assert not early, f"{early} windows closed early"
    return f"{fleet.reasons.total():,} rejected, each counted; 0 of {len(leads) - 1:,} windows closed early, the watermark led by {max(leads)} ms at most"


async def equal_and_walked(stage: Stage, found: Outcome) -> list[str]:
    """Equal, and every window's records and the late ones as a walk over what the clocks showed counts them."""
    fleet = stage.fleet
    assert isinstance(fleet, Clocks)
    tally = Tally()
    for records, shown, origin in zip(fleet.values, fleet.read_ms, fleet.origin.values, strict=True):
        models = [orjson.loads(value or b"")["model"] for _, value in origin]
        usable = [0 <= read_ms <= at_ms + MAX_AHEAD_MS for (at_ms, _), read_ms in zip(records, shown, strict=True)]
        tally.add(
            (read_ms, model) for read_ms, model, is_usable in zip(shown, models, usable, strict=True) if is_usable
        )
    return await equal(stage, found) + tally.problems(found)


# Silence: partitions that bring nothing.


class Phase(NamedTuple):
    """Which records of each partition are published next, by their places."""

    start: list[int]
    stop: list[int]


def _cut(fleet: Fleet, at_ms: int) -> list[int]:
    """Per partition, how many records come before the first with that event time."""
    return [next(place for place, (each_ms, _) in enumerate(records) if each_ms >= at_ms) for records in fleet.values]


async def silent_log(settings: Settings, size: Size) -> Log:
    """Topics and baselines only; the records come phase by phase, and only then is it known what follows from them."""
    fleet = build_fleet(*size)
    fleet.plan = fleet.plan | {"idle_after_ms": int(1000 * IDLE_AFTER_S)}
    fleet.watch = watching(plan_from(fleet.plan), *fleet.baselines)
    await fleet.create_topics(settings)
    await publish(settings, fleet.baselines, [])
    return Log(fleet, Outcome())


async def _on_the_broker(stage: Stage) -> list[list[Any]]:
    """The log with the broker's append times, by partition: on them depends which windows are final without whom."""
    log: list[list[Any]] = [[] for _ in range(stage.fleet.partitions)]
    async for record in records_on(stage.settings, stage.settings.topics.predictions):
        log[record.partition].append(record)
    return log


async def _publish(stage: Stage, phase: Phase) -> None:
    log = stage.fleet.log(stage.settings.topics.predictions)
    await publish(stage.settings, [], [each[start:stop] for each, start, stop in zip(log, *phase, strict=True)])


async def _taken_in(worker: Onlooker, n_records: int, within_s: float) -> float:
    """When the worker has read so many records: from then on there is silence."""

    async def is_taken_in() -> bool:
        return read(await worker.metrics()) >= n_records

    await until(is_taken_in, within_s, "not all records are read")
    return time.monotonic()


def _windows(stage: Stage, until: list[int], closed_ms: float) -> set[tuple[str, int]]:
    """Model and start of the windows that records up to these places are in, and that end by then."""
    starts = {
        (orjson.loads(value or b"")["model"], at_ms // WINDOW_MS * WINDOW_MS)
        for records, stop in zip(stage.fleet.values, until, strict=True)
        for at_ms, value in records[:stop]
    }
    return {(model, start_ms) for model, start_ms in starts if start_ms + WINDOW_MS <= closed_ms}


async def _judged(stage: Stage, wanted: set[tuple[str, int]], since: float, within_s: float) -> tuple[float, int]:
    """Seconds until every one of these windows is judged, and how many of them are provisional then."""
    while True:
        final: dict[tuple[str, int], bool] = {}
        async for record in records_on(stage.settings, stage.settings.topics.windows):
            document = orjson.loads(record.value)
            key = document["model"], document["window"]["start_ms"]
            final[key] = final.get(key, False) or document["final"]
        missing = wanted - final.keys()
        if not missing:
            return time.monotonic() - since, sum(not final[key] for key in wanted)
        assert time.monotonic() - since < within_s, f"{len(missing)} of {len(wanted)} windows are not judged"
        await asyncio.sleep(0.2)


async def silence(stage: Stage) -> str:
    """All partitions for eight windows, then one alone for eight, then none, then all of them again."""
    process = stage.workers.start()
    worker = Onlooker(process, stage.workers.logs[process.pid])
    await worker.ready(60)
    fleet, n = stage.fleet, stage.fleet.partitions
    first, second = (_cut(fleet, START_MS + windows * WINDOW_MS) for windows in (8, 16))
    alone = [second[0], *first[1:]]
    ends = [len(records) for records in fleet.values]
    bar_s = IDLE_AFTER_S + JUDGING_S
    await _publish(stage, Phase([0] * n, first))
    await _publish(stage, Phase(first, alone))
    since = await _taken_in(worker, sum(alone), within_s=120)
    highest_ms = max(at_ms for at_ms, _ in fleet.values[0][: alone[0]])
    closed_ms = (highest_ms - LATENESS_MS) // WINDOW_MS * WINDOW_MS
    one_s, n_one = await _judged(stage, _windows(stage, alone, closed_ms), since, bar_s)
    all_s, n_all = await _judged(stage, _windows(stage, alone, inf), since, bar_s)
    assert n_one > 0
    assert n_all > n_one
    await _publish(stage, Phase(alone, ends))
    stage.wanted = await asyncio.to_thread(expected, fleet.watch, await _on_the_broker(stage))
    return (
        f"{n - 1} of {n} idle: {n_one} windows judged provisionally after {one_s:.1f} s; "
        f"all idle: {n_all} after {all_s:.1f} s (idle_after_ms = {1000 * IDLE_AFTER_S:g})"
    )


FAULTS = (
    Fault(
        "clocks",
        "times in s, ms, us, ns and ISO 8601, 1 % a century ahead, 1 % negative, some at the bound",
        f"{EQUAL}, 0 windows closed early, counts exact",
        clocks,
        log=clocks_log,
        check=equal_and_walked,
    ),
    Fault(
        "silence",
        "all partitions but one idle, then all",
        f"provisional verdicts within {JUDGING_S:g} s of idle_after_ms, final ones afterwards {EQUAL}, on the same append times",
        silence,
        log=silent_log,
    ),
)
