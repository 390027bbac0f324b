"""Prediction logs with all that goes wrong in them, and what the two steps make of them, without a broker.

A log is a list of entries (value, Kafka timestamp), made from a seed. ``spread`` lays it out over partitions, ``run``
drives both steps over it. ``tests.oracle`` counts the same records without either step.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import orjson

from driftline.detectors.baselines.fit import fit
from driftline.detectors.documents.predictions import Batch, Prediction
from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import Plan, Rule
from driftline.detectors.verdicts import verdict
from driftline.detectors.verdicts.fleet import FleetState, Judged
from driftline.detectors.windows import profiling
from driftline.detectors.windows.profiling import PartitionState
from driftline.streams.formats import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from driftline.detectors.documents.alerts import Alert
    from driftline.detectors.documents.baseline import Baseline
    from driftline.detectors.documents.partials import Mark, Partial
    from driftline.detectors.verdicts.decide import Verdict
    from driftline.detectors.windows.ingest import Profiled

START_MS = 1_700_000_040_000
"""A multiple of a minute."""
MINUTE_MS = 60_000
MAX_BYTES = 1_000_000
LEVELS = {
    "country": ["de", "fr", "it", "pl", "se"],
    "device": ["phone", "web", "tv"],
    "merchant": [f"shop {k}" for k in range(150)],
}

SENSITIVE = Plan(
    min_rows=20,
    default_model="churn",
    detectors={
        "marginal": Rule(threshold=0.2),
        "adwin": Rule(threshold=0.9),
        "adwin_scale": Rule(threshold=0.9),
        "half_space_trees": Rule(threshold=0.03),
    },
)
"""So quick to alarm that short logs have alerts of every kind."""


class Entry(NamedTuple):
    """What a service published, and Kafka's timestamp of it."""

    value: bytes | None
    appended_ms: int
    timestamp_type: int = 1


@dataclass(slots=True)
class Record:
    """One record as a consumer gets it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes | None
    timestamp_type: int = 1


# --- baselines ---------------------------------------------------------------------------------------------------


def _features(rng: np.random.Generator, shift: float = 0.0) -> dict[str, Any]:
    return {
        "age": round(float(rng.normal(40 + 10 * shift, 10)), 1),
        "income": None if rng.random() < 0.05 else round(float(np.exp(rng.normal(10, 1))), 2),
        "country": str(rng.choice(LEVELS["country"], p=[0.4, 0.3, 0.15, 0.1, 0.05])),
        "device": None if rng.random() < 0.1 else str(rng.choice(LEVELS["device"])),
    }


def _prediction(rng: np.random.Generator, version: str) -> Any:
    if version == "1":
        return round(float(rng.beta(2, 5)), 4)
    p = round(float(rng.beta(2, 5)), 4)
    return {"stays": 1 - p, "leaves": p}


def _columns(rows: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns


def _merchant(rng: np.random.Generator) -> dict[str, Any]:
    return {"merchant": str(rng.choice(LEVELS["merchant"])), "night": bool(rng.random() < 0.3)}


@cache
def churn(version: str = "1", seed: int = 1, effective_from_ms: int = 0) -> Baseline:
    """A model of two numbers and two categories; version 1 predicts a number, version 2 a class."""
    rng = np.random.default_rng(seed)
    rows = [{**_features(rng), "prediction": _prediction(rng, version)} for _ in range(1000)]
    baseline = fit("churn", version, _columns(rows))
    return msgspec.structs.replace(baseline, effective_from_ms=effective_from_ms)


@cache
def fraud() -> Baseline:
    """A model without any number."""
    rng = np.random.default_rng(3)
    rows = [{**_merchant(rng), "prediction": bool(rng.random() < 0.02)} for _ in range(1000)]
    return fit("fraud", "1", _columns(rows))


def baselines() -> list[Baseline]:
    """All that the logs know."""
    return [churn("1"), churn("2"), fraud()]


def watching(plan: Plan, *known: Baseline) -> Watch:
    """A watch of some baselines."""
    watch = Watch(plan)
    for baseline in known:
        watch = watch.with_baseline(baseline)
    return watch


# --- logs --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """What a log is like.

    ``out_of_order_ms`` is how far event time runs back at most; ``stragglers`` the share of records that are minutes
    old; ``rubbish`` the share that can't be used, ``odd`` the share that can, though no schema allows for it; ``step_ms``
    the mean time between records. ``fast`` is the share with clocks that are ahead, by some seconds or by years,
    ``by_broker`` that of records with the broker's timestamps, and ``flushes`` that of flush marks.
    """

    n: int = 600
    step_ms: int = 1000
    out_of_order_ms: int = 9_000
    stragglers: float = 0.0
    rubbish: float = 0.0
    fast: float = 0.0
    by_broker: float = 1.0
    flushes: float = 0.0
    odd: float = 0.0


def prediction_log(seed: int, shape: Shape = Shape()) -> list[Entry]:
    """Several models in one log; ages shift in its second half."""
    rng = np.random.default_rng(seed)
    entries = []
    for row in range(shape.n):
        moment_ms = START_MS + row * shape.step_ms
        back_ms = 300_000 if rng.random() < shape.stragglers else shape.out_of_order_ms
        event_ms = moment_ms - int(rng.integers(0, back_ms + 1))
        document = _document(rng, row, event_ms, 1.0 if row > shape.n / 2 else 0.0)
        value: bytes | None = orjson.dumps(document)
        if rng.random() < shape.rubbish:
            value = _RUBBISH[int(rng.integers(len(_RUBBISH)))](document)
        elif shape.odd and rng.random() < shape.odd:
            value = _ODD[int(rng.integers(len(_ODD)))](document, event_ms)
        entries.append(Entry(value, moment_ms))
    return [_disturbed(entry, np.random.default_rng([seed, row]), shape) for row, entry in enumerate(entries)]


def _disturbed(entry: Entry, rng: np.random.Generator, shape: Shape) -> Entry:
    """A record as a wrong clock or another topic's setting would have it, or a flush mark in its place."""
    by_broker, fast, flush = rng.random(3) < (shape.by_broker, shape.fast, shape.flushes)
    value, appended_ms = entry.value, entry.appended_ms
    if fast and value and value.endswith(b"}") and b"\xff" not in value:
        claimed_ms = appended_ms + int(rng.choice([59_000, 480_000, 10**9, 10**12]) * rng.random())
        value = orjson.dumps(orjson.loads(value) | {"timestamp": claimed_ms})
        appended_ms = appended_ms if by_broker else claimed_ms
    if flush:
        value = orjson.dumps({"driftline": "flush", "event_ms": appended_ms - int(rng.integers(-30_000, 30_000))})
    return Entry(value, appended_ms, int(by_broker))


def _document(rng: np.random.Generator, row: int, event_ms: int, shift: float) -> dict[str, Any]:
    kind = rng.random()
    if kind < 0.2:
        document = {
            "model": "fraud",
            "version": "1",
            "features": _merchant(rng),
            "prediction": bool(rng.random() < 0.02),
        }
    else:
        version = "1" if kind < 0.7 else "2"
        features = _features(rng, shift)
        if rng.random() < 0.25:
            _soil(rng, features)
        document = {
            "model": "churn",
            "version": version,
            "features": features,
            "prediction": _prediction(rng, version) if rng.random() < 0.98 else _odd(rng),
        }
        if version == "1" and rng.random() < 0.1 and tuple(features) == ("age", "income", "country", "device"):
            inputs = list(features.values())
            document = {"input": inputs, "output": document["prediction"], "model_version": "1"}
    return {**document, "id": row, "timestamp": _timestamp(rng, event_ms)}


def _odd(rng: np.random.Generator) -> Any:
    return [None, "high", True, {}][int(rng.integers(4))]


def _soil(rng: np.random.Generator, features: dict[str, Any]) -> None:
    """One oddity that leaves the record usable."""
    name, value = [
        ("age", None),
        ("age", "forty"),
        ("age", "NaN"),
        ("age", "-Infinity"),
        ("age", True),
        ("age", 200),
        ("income", -5.0),
        ("income", 1e300),
        ("country", "xx"),
        ("country", 7),
        ("country", 2.5),
        ("country", None),
        ("device", False),
        ("device", "web"),
        ("extra", 1),
    ][int(rng.integers(15))]
    features[name] = value
    if rng.random() < 0.1:
        del features["income"]


def _timestamp(rng: np.random.Generator, event_ms: int) -> Any:
    moment = datetime.fromtimestamp(event_ms / 1000, UTC)
    spelled = [event_ms, event_ms * 1000, event_ms * 1_000_000, event_ms / 1000, moment.isoformat()]
    return spelled[int(rng.integers(5))]


_RUBBISH: list[Callable[[dict[str, Any]], bytes | None]] = [
    lambda _: None,
    lambda _: b"{",
    lambda document: orjson.dumps({**document, "model": "^", "version": "1", "features": {}, "prediction": 1}).replace(
        b"^", b"\xff"
    ),
    lambda document: orjson.dumps({key: value for key, value in document.items() if key not in ("features", "input")}),
    lambda document: orjson.dumps({**document, "features": [1], "input": 3}),
    lambda document: orjson.dumps({**document, "timestamp": -5}),
    lambda document: orjson.dumps({**document, "timestamp": "yesterday"}),
    lambda document: orjson.dumps({**document, "timestamp": 2_000_000_000_000}),
    lambda document: orjson.dumps({**document, "model": "ghost", "version": "1", "features": {}, "prediction": 1}),
    lambda document: orjson.dumps({**document, "model": "a\u0000b", "version": "1", "features": {}, "prediction": 1}),
]


def _with_feature(name: str, value: Any) -> Callable[[dict[str, Any], int], bytes]:
    """Write a record with one feature like this, or its first input."""

    def written(document: dict[str, Any], _: int) -> bytes:
        if "input" in document:
            changed = {**document, "input": [value, *document["input"][1:]]}
        else:
            changed = {**document, "features": {**document["features"], name: value}}
        return json.dumps(changed).encode()

    return written


def _with(make: Callable[[int], dict[str, Any]]) -> Callable[[dict[str, Any], int], bytes]:
    return lambda document, event_ms: orjson.dumps(document | make(event_ms))


_LIKE_AGES = [float("nan"), float("inf"), float("-inf"), [1], {"years": 41}, " 41.5 ", "4e1", "12 years", 10**400]
_LIKE_COUNTRIES: list[Any] = [[], {"code": "de"}, float("nan")]
_LIKE_NIGHTS = ["True", "FALSE", 1, 0.0, "1", "yes", "NA", "", [True]]
_ODD: list[Callable[[dict[str, Any], int], bytes]] = [
    *(_with_feature("age", value) for value in _LIKE_AGES),
    *(_with_feature("country", value) for value in _LIKE_COUNTRIES),
    *(_with_feature("night", value) for value in _LIKE_NIGHTS),
    lambda document, _: b"\xef\xbb\xbf" + orjson.dumps(document),
    lambda document, _: orjson.dumps(
        {**document, **{name: int(document[name]) for name in ("version", "model_version") if name in document}}
    ),
    _with(lambda _: {"segment": {"tier": 1}, "weight": "1", "label": [], "latency_ms": {}, "status": True, "id": [0]}),
    _with(lambda ms: {"timestamp": str(ms)}),
    _with(lambda ms: {"timestamp": {"seconds": str(ms // 1000), "nanos": ms % 1000 * 1_000_000}}),
    _with(lambda ms: {"timestamp": {"$date": ms}}),
    _with(lambda ms: {"timestamp": f"{datetime.fromtimestamp(ms / 1000, UTC):%Y/%m/%d %H:%M:%S.%f} UTC"}),
]


def spread(log: Sequence[Entry], partitions: int) -> list[list[Record]]:
    """Lay a log out over partitions in turn; offsets have gaps, as compaction and transactions leave them."""
    laid: list[list[Record]] = [[] for _ in range(partitions)]
    for place, entry in enumerate(log):
        row, partition = divmod(place, partitions)
        offset = row + row // 7
        laid[partition].append(
            Record("predictions", partition, offset, entry.appended_ms, entry.value, entry.timestamp_type)
        )
    return laid


def cut(records: Sequence[Record], sizes: Sequence[int]) -> Iterator[Sequence[Record]]:
    """Batches of these sizes, over and over."""
    start, turns = 0, cycle(sizes)
    while start < len(records):
        size = next(turns)
        yield records[start : start + size]
        start += size


# --- both steps --------------------------------------------------------------------------------------------------


@dataclass
class Profile:
    """What stage 1 made of one partition; ``items`` in the order in which they were sent."""

    state: PartitionState
    items: list[Partial | Mark] = field(default_factory=list)
    events: list[Alert] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)
    tally: Counter[str] = field(default_factory=Counter)

    def take(self, batch: Sequence[Record], watch: Watch) -> None:
        """Decode one batch and step over it."""
        decoded, unreadable = wire.decode(batch, watch, MAX_BYTES)
        told = [(offset, reason) for offset, reason, *_ in unreadable if offset >= self.state.next_offset]
        self.rejected += told
        self.tally.update(read=len(unreadable), skipped=len(unreadable) - len(told), rejected=len(told))
        self.step(decoded, watch)

    def step(self, batch: Batch, watch: Watch) -> Profiled:
        """Step over one batch."""
        self.state, out = profiling.step(self.state, batch, watch)
        self.items += [*out.partials, *([out.mark] if out.mark else [])]
        self.events += out.events
        self.rejected += out.rejected
        self.tally.update(
            read=batch.offsets.size + len(batch.flushes),
            accepted=out.accepted,
            late=out.late,
            flushes=out.flushes,
            skipped=out.skipped,
            rejected=len(out.rejected),
        )
        return out


def profile(records: Sequence[Record], partition: int, partitions: int, sizes: Sequence[int], watch: Watch) -> Profile:
    """Stage 1 over one partition."""
    found = Profile(PartitionState(partition, partitions))
    for batch in cut(records, sizes):
        found.take(batch, watch)
    return found


def in_turn(lists: Sequence[Sequence[Partial | Mark]]) -> list[Partial | Mark]:
    """One from each, over and over, as partitions that go at the same pace are read."""
    longest = max(map(len, lists))
    return [items[place] for place in range(longest) for items in lists if place < len(items)]


def judge(items: Sequence[Partial | Mark], watch: Watch, at_once: int = 5) -> tuple[FleetState, Judged]:
    """Stage 2 over items in this order, so many in one step."""
    state, out = FleetState(0), Judged()
    for start in range(0, len(items), at_once):
        state, step = verdict.step(state, list(enumerate(items))[start : start + at_once], watch)
        extend(out, step)
    return state, out


def extend(out: Judged, step: Judged) -> None:
    """Add up the outputs of steps."""
    out.verdicts += step.verdicts
    out.alerts += step.alerts
    out.stale += step.stale
    out.missed += step.missed
    out.unmatched += step.unmatched


@dataclass
class Outcome:
    """What both steps made of a log."""

    profiles: list[Profile]
    judged: Judged

    @property
    def final(self) -> dict[tuple[str, str, int], Verdict]:
        """Final verdicts by model, version and window start."""
        return final_verdicts(self.judged)

    @property
    def events(self) -> list[Alert]:
        """Single-record alerts."""
        return [event for found in self.profiles for event in found.events]

    @property
    def tally(self) -> Counter[str]:
        """Records by what became of them."""
        return sum((found.tally for found in self.profiles), Counter())


def run(log: Sequence[Entry], watch: Watch, partitions: int = 1, sizes: Sequence[int] = (97,)) -> Outcome:
    """Both steps over a log; partitions take turns."""
    laid = spread(log, partitions)
    profiles = [profile(records, place, partitions, sizes, watch) for place, records in enumerate(laid)]
    return Outcome(profiles, judge(in_turn([each.items for each in profiles]), watch)[1])


def final_verdicts(judged: Judged) -> dict[tuple[str, str, int], Verdict]:
    """Final verdicts by model, version and window start: at most one each."""
    final = [found for found in judged.verdicts if found.final]
    by_window = {(found.model, found.version, found.window.start_ms): found for found in final}
    assert len(by_window) == len(final)
    return by_window


def said(judged: Judged) -> tuple[dict[tuple[str, str, int], bytes], list[bytes]]:
    """Final verdicts and alerts as they are written, in an order of their own."""
    verdicts = {key: wire.document(found) for key, found in sorted(final_verdicts(judged).items())}
    return verdicts, sorted(wire.document(alert) for alert in judged.alerts)


# --- single steps ------------------------------------------------------------------------------------------------


def prediction(features: dict[str, Any], output: Any = 0.5, model: str = "m", version: str = "1") -> Prediction:
    """One prediction."""
    return Prediction(model=model, version=version, features=features, prediction=output)


def batch_of(
    predictions: Sequence[Prediction], event_ms: Sequence[int] | int, first_offset: int = 0, partition: int = 0
) -> Batch:
    """A batch of consecutive offsets that were appended as they happened."""
    n = len(predictions)
    moments = np.broadcast_to(np.asarray(event_ms, np.int64), n).copy()
    offsets = np.arange(first_offset, first_offset + n)
    by_broker = np.ones(n, np.bool_)
    return Batch("predictions", partition, offsets, moments, moments, by_broker, list(predictions), first_offset + n)


# --- one small model ---------------------------------------------------------------------------------------------


def sample(n: int, seed: int, shift: float = 0.0) -> list[Prediction]:
    """Records of model m, version 1: two normal features, of which x is shifted, three colours, a uniform prediction."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n))
    colours = rng.choice(["red", "green", "blue"], size=n, p=[0.5, 0.3, 0.2])
    outputs = rng.random(n)
    return [
        prediction({"x": float(x[row] + shift), "y": float(y[row]), "colour": str(colours[row])}, float(outputs[row]))
        for row in range(n)
    ]


@cache
def plain(seed: int = 0, effective_from_ms: int = 0) -> Baseline:
    """Baseline of that model, 5000 rows without a null."""
    columns = _columns({**each.features, "prediction": each.prediction} for each in sample(5000, seed))
    return msgspec.structs.replace(fit("m", "1", columns), effective_from_ms=effective_from_ms)


def by_the_minute(watch: Watch, *minutes: Sequence[Prediction]) -> Outcome:
    """Both steps over one partition: each group fills a minute of its own, and all of these minutes are closed."""
    found, start = Profile(PartitionState(0, 1)), 0
    for minute, group in enumerate([*minutes, [], minutes[-1][-1:]]):
        moments = START_MS + minute * MINUTE_MS + np.arange(len(group)) * MINUTE_MS // max(1, len(group))
        if minute > len(minutes):
            moments += watch.plan.lateness_ms
        found.step(batch_of(group, moments.tolist(), start), watch)
        start += len(group)
    return Outcome([found], judge(found.items, watch)[1])
