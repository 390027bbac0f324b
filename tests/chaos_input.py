"""Scenarios about input: poison, disorder, clocks. Each brings a log of its own, and says exactly what must come of it."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import orjson

from driftline.detectors.plan import plan_from
from tests.chaos_log import LATENESS_MS, N_WINDOWS, START_MS, WINDOW_MS, Fleet, build_fleet
from tests.chaos_stage import EQUAL, Fault, Log, Size, Stage, equal
from tests.fleet import Workers, expected, publish, records_on, settings_for, states_saved, verdicts_complete
from tests.logs import watching
from tests.onlooker import Onlooker, Usage, by_label, read, total
from tests.test_wire import GOOD, POSITIONAL, REJECTED, YEAR_MS, with_

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from driftline.streams.config.settings import Settings
    from tests.fleet import Outcome

Value = tuple[int, bytes | None]
"""Kafka timestamp and value of a record."""

END_MS = START_MS + (N_WINDOWS + 2) * WINDOW_MS
MAX_RECORD_BYTES = 400_000
MAX_AHEAD_MS = 60_000
CENTURY_MS = 100 * YEAR_MS
LARGE_BYTES = 10_000
FEW = 25_000
"""Of each kind of large record there is one in so many, so that the log stays a log of predictions."""
AS_FAST = 0.8


@dataclass
class Disturbed(Fleet):
    """A log that was made of another one, by which it is judged."""

    origin: Fleet
    reasons: Counter[str] = field(default_factory=Counter)
    too_slow: str = ""

    @classmethod
    def of(cls, origin: Fleet, values: list[list[Value]], reasons: Counter[str]) -> Disturbed:
        return cls(origin.plan, origin.baselines, origin.partitions, values, origin.watch, origin, reasons)


async def _published(fleet: Disturbed, settings: Settings, max_record_bytes: int = 2**20) -> Log:
    topic = settings.topics.predictions
    wanted = await asyncio.to_thread(expected, fleet.watch, fleet.log(topic), max_record_bytes)
    await fleet.create_topics(settings)
    await publish(settings, fleet.baselines, fleet.log(topic))
    return Log(fleet, wanted)


def _disturbed(stage: Stage) -> Disturbed:
    assert isinstance(stage.fleet, Disturbed)
    return stage.fleet


# Poison: one record in ten can't be used.

_ELSEWHERE = {"10 MB of features", "a year ahead", "ahead by one", "before its baseline", "wrong number of inputs"}
ODD = [
    b'"forty"',
    b"true",
    b"null",
    b'"Infinity"',
    b"9" * 300,
    b'0.5,"x0":0.6',
    b'0.5,"new":1.5',
    b'"' + b"s" * 300_000 + b'"',
]
"""What may stand for a number in a record that is usable."""


TIMELY = str(GOOD["timestamp"]).encode()


def _bad_values() -> list[tuple[Callable[[int], bytes | None], str]]:
    """Every kind of bad record, given its Kafka timestamp, with the reason that it is rejected for."""

    def always(value: bytes | None) -> Callable[[int], bytes | None]:
        value = value and value.replace(b'"churn"', b'"model-0"')
        return lambda at_ms: value and value.replace(TIMELY, str(at_ms).encode())

    kinds = [(always(value), reason) for kind, (value, reason) in REJECTED.items() if kind not in _ELSEWHERE]
    return [
        *kinds,
        (lambda at_ms: with_(model="model-0", timestamp=at_ms + CENTURY_MS), "ahead"),
        (lambda at_ms: with_(model="later", timestamp=at_ms), "no_baseline_yet"),
        (always(orjson.dumps({**POSITIONAL, "model_version": "1"})), "invalid_field"),
        (always(with_(features={"x0": "s" * 1_000_000})), "too_large"),
    ]


def poisoned(origin: Fleet) -> Disturbed:
    """Ten records for every nine of the original: the tenth is bad."""
    rng, reasons, kinds = np.random.default_rng(11), Counter[str](), cycle(_bad_values())
    large: Counter[int] = Counter()
    n_large = 1 + sum(origin.log_ends().values()) // FEW
    values: list[list[Value]] = []
    for records in origin.values:
        mixed: list[Value] = []
        for (at_ms, value), is_followed in zip(records, rng.random(len(records)) < 1 / 9, strict=True):
            mixed.append((at_ms, value))
            while is_followed:
                make, reason = next(kinds)
                bad = make(at_ms)
                large[id(make)] += len(bad or b"") > LARGE_BYTES
                if large[id(make)] <= n_large:
                    mixed.append((at_ms, bad))
                    reasons[reason] += 1
                    break
        values.append(mixed)
    return Disturbed.of(origin, values, reasons)


def with_odd_values(origin: Fleet) -> Fleet:
    """One record in a hundred has something else in the place of a number, and is usable."""
    rng, odd, n_long = np.random.default_rng(12), cycle(ODD), 0
    n_large = 1 + sum(origin.log_ends().values()) // FEW
    values = [list(records) for records in origin.values]
    for records in values:
        for place in rng.integers(len(records) - 1, size=len(records) // 100).tolist():
            literal, (at_ms, value) = next(odd), records[place]
            n_long += len(literal) > LARGE_BYTES
            if value is not None and (len(literal) < LARGE_BYTES or n_long <= n_large):
                records[place] = at_ms, re.sub(rb'"x0":[^,]+', b'"x0":' + literal, value, count=1)
    return replace(origin, values=values)


async def poison_log(settings: Settings, size: Size) -> Log:
    """The log with odd and bad records."""
    fleet = with_odd_values(build_fleet(size.records * 9 // 10, size.models, size.partitions))
    later = msgspec.structs.replace(fleet.baselines[0], model="later", effective_from_ms=END_MS + YEAR_MS).sealed()
    fleet.plan, fleet.baselines = fleet.plan | {"default_model": "model-0"}, [*fleet.baselines, later]
    fleet.watch = watching(plan_from(fleet.plan), *fleet.baselines)
    return await _published(poisoned(fleet), settings, MAX_RECORD_BYTES)


async def _cost(workers: Workers, fleet: Fleet, within_s: float = 300) -> tuple[float, float]:
    """CPU and wall seconds per million records of a worker that starts now, from the first batch to the last."""
    process, n_records = workers.start(), sum(fleet.log_ends().values())
    worker = Onlooker(process, workers.logs[process.pid])
    seen: list[tuple[Usage, int]] = []
    async with asyncio.timeout(within_s):
        await worker.ready(within_s)
        while not seen or seen[-1][1] < n_records:
            n = read(await worker.metrics())
            if n:
                seen.append((worker.usage(), n))
            await asyncio.sleep(0.5)
    (first, start), (last, stop) = seen[0], seen[-1]
    return 1e6 * (last.cpu_s - first.cpu_s) / (stop - start), 1e6 * (last.at_s - first.at_s) / (stop - start)


async def _clean(stage: Stage) -> Path:
    """Publish the original log to topics of its own, and configure workers for it."""
    fleet, name = _disturbed(stage).origin, f"{stage.settings.worker.app_id}-clean"
    bootstrap, directory = stage.settings.kafka.bootstrap_servers, stage.kafka_directory.parent
    settings, config = settings_for(bootstrap, name, directory, **fleet.plan)
    await fleet.create_topics(settings)
    await publish(settings, fleet.baselines, fleet.log(settings.topics.predictions))
    return config


async def poison(stage: Stage) -> str:
    """One worker on the poisoned log and, at the same time, one on the clean one; counts by reason must be exact."""
    fleet = _disturbed(stage)
    with Workers(await _clean(stage)) as others:
        (cpu, wall), (clean_cpu, clean_wall) = await asyncio.gather(
            _cost(stage.workers, fleet), _cost(others, fleet.origin)
        )
        others.stop()
    (process,) = stage.workers.running
    worker = Onlooker(process, stage.workers.logs[process.pid])
    await verdicts_complete(stage.settings, stage.wanted, 60)
    await states_saved(stage.settings, fleet.log_ends(), 60)
    metrics = await worker.metrics()
    counted, unsent = (
        by_label(metrics, "records_rejected_total", "reason"),
        total(metrics, "suppressed_dead_letters_total"),
    )
    letters: Counter[str] = Counter()
    async for record in records_on(stage.settings, stage.settings.topics.dead_letters):
        letters[dict(record.headers)["reason"].decode()] += 1
    assert counted == fleet.reasons, f"counted {counted}, {fleet.reasons} were sent"
    assert letters <= fleet.reasons, f"dead letters {letters}, {fleet.reasons} were sent"
    assert letters.total() == fleet.reasons.total() - unsent, f"{letters.total()} dead letters, {unsent} suppressed"
    fleet.too_slow = "too slow" * (clean_cpu / cpu < AS_FAST)
    return (
        f"{fleet.reasons.total():,} bad records of {len(fleet.reasons)} reasons, each counted, "
        f"{unsent:,.0f} beyond the dead letters of a minute; records per CPU second "
        f"{clean_cpu / cpu:.0%} of clean ({cpu:.1f} us each, {clean_cpu:.1f}), per second {clean_wall / wall:.0%}"
    )


async def equal_to_clean(stage: Stage, found: Outcome) -> list[str]:
    """Equal, and the verdicts but for offsets those of the log without the bad records; no worker was replaced."""
    problems = await equal(stage, found)
    problems += [f"{len(stage.workers.logs)} workers were started"] * (len(stage.workers.logs) > 1)
    problems += filter(None, [_disturbed(stage).too_slow])
    return problems + await _unlike_origin(stage, found, _without_offsets)


def _without_offsets(verdict: dict[str, Any]) -> Any:
    for change in verdict["change_points"]:
        del change["offset"]
    return verdict


def _counts(verdict: dict[str, Any]) -> Any:
    """What does not depend on the order of records, as detectors of change and of outliers do."""
    kept = ("counts", "missing", "nonfinite", "other", "unseen", "p_value", "scores")
    signals = {name: [signal[each] for each in kept] for name, signal in verdict["signals"].items()}
    return verdict["n"], verdict["late"], verdict["violations"], signals


async def _unlike_origin(stage: Stage, found: Outcome, seen: Callable[[dict[str, Any]], Any]) -> list[str]:
    """What is seen of the verdicts must be that of an undisturbed run over the original log."""
    fleet = _disturbed(stage)
    wanted = await asyncio.to_thread(expected, fleet.watch, fleet.origin.log(stage.settings.topics.predictions))
    both = found.verdicts, wanted.verdicts
    mine, theirs = ({key: seen(orjson.loads(raw)) for key, raw in each.items()} for each in both)
    differ = sum(mine.get(key) != each for key, each in theirs.items())
    return [f"{differ} of {len(theirs)} verdicts differ from the original log's"] * (mine != theirs)


# Disorder: records come later than their event time says.


def reordered(origin: Fleet, delay_ms: Callable[[int], np.ndarray[Any, Any]]) -> Disturbed:
    """Records in the order of event time, then each delayed; the last one stays last."""
    in_order = [[*sorted(records[:-1], key=lambda each: each[0]), records[-1]] for records in origin.values]
    values = []
    for *records, last in in_order:
        come_ms = np.array([at_ms for at_ms, _ in records]) + delay_ms(len(records))
        values.append([*(records[place] for place in come_ms.argsort(kind="stable").tolist()), last])
    return Disturbed.of(replace(origin, values=in_order), values, Counter())


async def disorder_log(settings: Settings, size: Size) -> Log:
    """Every record delayed by less than the lateness."""
    rng = np.random.default_rng(13)
    return await _published(reordered(build_fleet(*size), lambda n: rng.integers(0, LATENESS_MS, n)), settings)


async def late_log(settings: Settings, size: Size) -> Log:
    """One record in fifty delayed by up to four windows more."""
    rng = np.random.default_rng(14)

    def delay_ms(n: int) -> np.ndarray[Any, Any]:
        return rng.integers(0, LATENESS_MS, n) + (rng.random(n) < 0.02) * rng.integers(0, 4 * WINDOW_MS, n)

    return await _published(reordered(build_fleet(*size), delay_ms), settings)


async def equal_to_sorted(stage: Stage, found: Outcome) -> list[str]:
    """Equal, and all counts, p-values and scores those of the log in the order of event time."""
    return await equal(stage, found) + await _unlike_origin(stage, found, _counts)


async def two_workers(stage: Stage) -> str:
    """No fault but the log's."""
    for _ in range(2):
        stage.workers.start()
    return "2 workers"


@dataclass
class Tally:
    """What a walk over the log says must be counted."""

    timely: Counter[tuple[str, int]] = field(default_factory=Counter)
    late: int = 0

    def add(self, records: Iterable[tuple[int, str]]) -> None:
        """Walk over the event time and model of a partition's usable records."""
        highest_ms = -1
        for event_ms, model in records:
            start_ms = event_ms // WINDOW_MS * WINDOW_MS
            if start_ms + WINDOW_MS <= highest_ms - LATENESS_MS:
                self.late += 1
            else:
                self.timely[model, start_ms] += 1
            highest_ms = max(highest_ms, event_ms)

    def problems(self, found: Outcome) -> list[str]:
        """What the verdicts say otherwise."""
        verdicts = [orjson.loads(raw) for raw in found.verdicts.values()]
        timely = Counter({(each["model"], each["window"]["start_ms"]): each["n"] for each in verdicts if each["n"]})
        late = sum(each["late"] for each in verdicts)
        closed = Counter({key: n for key, n in self.timely.items() if key[1] + WINDOW_MS <= END_MS - LATENESS_MS})
        return [f"{late} late records, a walk over the log finds {self.late}"] * (late != self.late) + [
            "other records in the windows than a walk over the log finds"
        ] * (timely != closed)


async def equal_and_counted(stage: Stage, found: Outcome) -> list[str]:
    """Equal, and every window's records and the late ones as a walk over the log counts them."""
    tally = Tally()
    for records in stage.fleet.values:
        tally.add((at_ms, orjson.loads(value or b"")["model"]) for at_ms, value in records)
    told = ["no record is late"] * (not tally.late)
    return await equal(stage, found) + tally.problems(found) + told


FAULTS = (
    Fault(
        "poison",
        "one record in ten is bad, of every kind",
        f"{EQUAL}, verdicts as without them, counts by reason exact, >= {AS_FAST:.0%} of the rate per CPU second of a clean log beside it",
        poison,
        environment={"DRIFTLINE_WORKER__MAX_RECORD_BYTES": str(MAX_RECORD_BYTES)},
        log=poison_log,
        check=equal_to_clean,
    ),
    Fault(
        "disorder",
        "every record delayed by less than the lateness",
        f"{EQUAL}, counts as in the order of event time",
        two_workers,
        log=disorder_log,
        check=equal_to_sorted,
    ),
    Fault(
        "late",
        "one record in fifty delayed by up to four windows",
        f"{EQUAL}, late records counted exactly",
        two_workers,
        log=late_log,
        check=equal_and_counted,
    ),
)
