"""What bad input gets, how times are told, and what is written for whom."""

from __future__ import annotations

import gzip
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import orjson
import pytest

from driftline.detectors.documents.alerts import Alert, Origin, Window
from driftline.detectors.documents.partials import ChangePoint, Mark, Partial
from driftline.detectors.errors import REASONS, RecordError
from driftline.detectors.plan import Plan
from driftline.streams.engine.profiling_stage import ProfilingStage
from driftline.streams.engine.shared import Shared
from driftline.streams.engine.verdict_stage import VerdictStage
from driftline.streams.formats import wire
from driftline.streams.observability.metrics import Metrics
from tests.logs import START_MS, churn, fraud, watching
from tests.memory_broker import Record

if TYPE_CHECKING:
    from driftline.streams.formats.wire import Outgoing

MAX_BYTES = 2**20
YEAR_MS = 365 * 86_400_000
GOOD: dict[str, Any] = {
    "model": "churn",
    "version": "1",
    "id": "a",
    "timestamp": START_MS + 5_000,
    "features": {"age": 41.5, "income": 20_000.0, "country": "de", "device": "web"},
    "prediction": 0.2,
}
POSITIONAL = {"input": [0.5, 2.1], "output": 0.9, "model_version": "v1.2", "timestamp": 1_700_000_000}


def with_(**fields: Any) -> bytes:
    return orjson.dumps({**GOOD, **fields})


def without(name: str) -> bytes:
    return orjson.dumps({key: value for key, value in GOOD.items() if key != name})


def feature(literal: bytes) -> bytes:
    """A good record whose age is written like this."""
    return with_().replace(b"41.5", literal)


# Kind of bad input: its bytes, and the reason that it is rejected for.
REJECTED: dict[str, tuple[bytes | None, str]] = {
    "tombstone": (None, "tombstone"),
    "empty": (b"", "invalid_json"),
    "cut short": (with_()[:-1], "invalid_json"),
    "trailing": (with_() + b"}", "invalid_json"),
    "byte order mark in the middle": (b" \xef\xbb\xbf" + with_(), "invalid_json"),
    "bad UTF-8": (with_().replace(b"churn", b"ch\xffrn"), "invalid_utf8"),
    "surrogate as bytes": (feature(b'"\xed\xa0\x80"'), "invalid_utf8"),
    "lone surrogate": (feature(b'"\\ud800"'), "invalid_json"),
    "no JSON's NaN": (feature(b"NaNs"), "invalid_json"),
    "an infinite time": (with_(timestamp=0).replace(b'"timestamp":0', b'"timestamp":Infinity'), "bad_timestamp"),
    "5000 digits of time": (
        with_(timestamp=0).replace(b'"timestamp":0', b'"timestamp":' + b"9" * 5000),
        "bad_timestamp",
    ),
    "nested in a feature": (feature(b"[" * 100_000 + b"]" * 100_000), "invalid_json"),
    "nested in an unknown field": (with_()[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"),
    "10 MB of features": (with_().replace(b'"age"', b'"b":2.5,' * 1_250_000 + b'"age"'), "too_large"),
    "a list": (b"[1, 2]", "invalid_field"),
    "a number": (b"3", "invalid_field"),
    "null": (b"null", "invalid_field"),
    "no model": (without("model"), "missing_field"),
    "no version": (without("version"), "missing_field"),
    "no features": (without("features"), "missing_field"),
    "no prediction": (without("prediction"), "missing_field"),
    "no field": (b"{}", "missing_field"),
    "version is a boolean": (with_(version=True), "invalid_field"),
    "model is a list": (with_(model=["churn"]), "invalid_field"),
    "features is a list": (with_(features=[1]), "invalid_field"),
    "prediction is a list": (with_(prediction=[0.2]), "invalid_field"),
    "a class without a number": (with_(prediction={"yes": "high"}), "invalid_field"),
    "timestamp is a boolean": (with_(timestamp=True), "bad_timestamp"),
    "timestamp is a list": (with_(timestamp=[2024, 1, 31]), "bad_timestamp"),
    "day or month first": (with_(timestamp="01/02/2024"), "bad_timestamp"),
    "gzip": (gzip.compress(with_(), mtime=0), "unsupported_format"),
    "negative": (with_(timestamp=-1), "bad_timestamp"),
    "negative text": (with_(timestamp="1969-12-31T23:59:59Z"), "bad_timestamp"),
    "no date": (with_(timestamp="yesterday"), "bad_timestamp"),
    "far future text": (with_(timestamp="9999-12-31T00:00:00Z"), "bad_timestamp"),
    "30 digits of time": (with_(timestamp=0).replace(b'"timestamp":0', b'"timestamp":' + b"9" * 30), "bad_timestamp"),
    "a year ahead": (with_(timestamp=START_MS + YEAR_MS), "ahead"),
    "ahead by one": (with_(timestamp=START_MS + 10_000 + 60_001), "ahead"),
    "unknown model": (with_(model="ghost"), "unknown_model"),
    "unknown version": (with_(version="2"), "unknown_model"),
    "control characters": (with_(model="ch\x00urn"), "bad_name"),
    "separator": (with_(version="1|2"), "bad_name"),
    "empty name": (with_(model=""), "bad_name"),
    "long name": (with_(model="m" * 129), "bad_name"),
    "before its baseline": (with_(model="fraud", features={"merchant": "a", "night": True}), "no_baseline_yet"),
    "wrong number of inputs": (orjson.dumps({**POSITIONAL, "model_version": "1"}), "invalid_field"),
    "unknown positional version": (orjson.dumps(POSITIONAL), "unknown_model"),
}

# Kind of odd input that is usable: its bytes, and the violations that it is counted under.
USABLE: dict[str, tuple[bytes, Counter[tuple[str, str]]]] = {
    "good": (with_(), Counter()),
    "byte order mark": (b"\xef\xbb\xbf" + with_(), Counter()),
    "version is a number": (with_(version=1), Counter()),
    "NaN": (feature(b"NaN"), Counter({("null", "age"): 1})),
    "Infinity": (feature(b"Infinity"), Counter({("finite", "age"): 1})),
    "-Infinity": (feature(b"-Infinity"), Counter({("finite", "age"): 1})),
    "1e999": (feature(b"1e999"), Counter({("finite", "age"): 1})),
    "5000 digits": (feature(b"-" + b"9" * 5000), Counter({("finite", "age"): 1})),
    "a number as text": (feature(b'" 41.5"'), Counter({("type", "age"): 1})),
    "an impossible number as text": (feature(b'"2e2"'), Counter({("type", "age"): 1, ("range", "age"): 1})),
    "a list": (feature(b"[41.5]"), Counter({("type", "age"): 1})),
    "an object for a category": (
        with_(features={**GOOD["features"], "country": {"code": "de"}}),
        Counter({("type", "country"): 1}),
    ),
    "odd optional fields": (with_(segment=1, label=[], latency_ms="fast", status={}, weight="1", id=[]), Counter()),
    "a string for a number": (feature(b'"forty"'), Counter({("type", "age"): 1})),
    "a spelled infinity": (feature(b'"Infinity"'), Counter({("finite", "age"): 1})),
    "a boolean for a number": (feature(b"true"), Counter()),
    "null": (feature(b"null"), Counter({("null", "age"): 1})),
    "absent": (with_(features={"income": 1.0, "country": "de", "device": "web"}), Counter({("null", "age"): 1})),
    "300 digits": (feature(b"9" * 300), Counter({("range", "age"): 1})),
    "impossible": (feature(b"200"), Counter({("range", "age"): 1})),
    "a new category": (with_(features={**GOOD["features"], "country": "xx"}), Counter({("category", "country"): 1})),
    "a key twice": (with_()[:-1] + b',"prediction":0.3}', Counter()),
    "unknown fields": (with_(features={**GOOD["features"], "a\x00b": 1.0}, extra={"deep": [[]]}), Counter()),
    "no timestamp": (without("timestamp"), Counter()),
    "ahead within the bound": (with_(timestamp=START_MS + 10_000 + 60_000), Counter()),
}


@cache
def shared() -> Shared:
    late = msgspec.structs.replace(fraud(), effective_from_ms=START_MS + 600_000)
    return Shared(
        watching(Plan(default_model="churn", events_per_million=1e12), churn("1"), late),
        1,
        1,
        MAX_BYTES,
        Metrics("test"),
    )


class Bench:
    """Stage 1 over raw records, with metrics of its own."""

    def __init__(self) -> None:
        known = shared()
        self.shared = Shared(known.watch, 1, 1, MAX_BYTES, Metrics("test"))
        self.stage = ProfilingStage(self.shared)
        self.state, _ = self.stage.restore(0, {})
        self.end = 0

    def step(self, *values: bytes | None) -> list[Outgoing]:
        records = [Record("predictions", 0, self.end + i, START_MS + 10_000, value) for i, value in enumerate(values)]
        self.end += len(values)
        self.state, outputs = self.stage.step(self.state, records)
        tally = self.tally()
        assert self.end == tally["accepted"] + tally["late"] + tally["rejected"] + tally["replay_skipped"]
        assert tally["rejected"] == sum(self.rejected().values())
        return outputs

    def _samples(self, name: str, label: str) -> Counter[str]:
        families = self.shared.metrics.registry.collect()
        samples = [
            sample for family in families for sample in family.samples if sample.name == f"driftline_{name}_total"
        ]
        return Counter({sample.labels[label]: int(sample.value) for sample in samples if sample.value})

    def reasons(self, *values: bytes | None) -> list[str]:
        letters = [output for output in self.step(*values) if output.topic == "dead_letters"]
        return [dict(letter.headers)["reason"].decode() for letter in letters]

    def tally(self) -> Counter[str]:
        return self._samples("records", "result")

    def rejected(self) -> Counter[str]:
        return self._samples("records_rejected", "reason")


def violations(bench: Bench) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for cell in bench.state.cells.values():
        for window in cell.windows.values():
            table = window.layout.violations(window.vector)
            for row, place in zip(*table.nonzero(), strict=True):
                found[("type", "null", "range", "category", "finite")[row], window.layout.signals[place]] += int(
                    table[row, place]
                )
    return found


# Bad input.


@pytest.mark.parametrize("kind", REJECTED)
def test_what_cannot_be_used_becomes_a_dead_letter_with_its_reason(kind: str) -> None:
    value, reason = REJECTED[kind]
    bench = Bench()
    outputs = bench.step(with_(), value, with_())
    assert bench.rejected() == {reason: 1}
    assert bench.tally() == {"accepted": 2, "rejected": 1}
    [letter] = [output for output in outputs if output.topic == "dead_letters"]
    assert letter.value == (value or b"")[: wire.MAX_DEAD_LETTER]
    headers = {"reason": reason, "topic": "predictions", "partition": "0", "offset": "1"}
    told = {name: text.decode() for name, text in letter.headers if name in ("field", "found", "wanted")}
    assert told.get("wanted")
    assert all(text.isprintable() and text.isascii() and len(text) < 250 for text in told.values())
    headers |= told
    if value and len(value) > wire.MAX_DEAD_LETTER:
        headers["size"] = str(len(value))
    assert {name: text.decode() for name, text in letter.headers} == headers
    assert (letter.key, letter.partition) == (None, None)
    assert bench.state.next_offset == 3


@pytest.mark.parametrize("kind", USABLE)
def test_what_can_be_used_is_counted_under_what_is_odd_about_it(kind: str) -> None:
    value, broken = USABLE[kind]
    bench = Bench()
    outputs = bench.step(value)
    assert bench.tally() == {"accepted": 1}
    assert violations(bench) == broken
    alerts = [output for output in outputs if output.topic == "alerts"]
    assert len(alerts) == broken.total()
    assert all(output.topic != "dead_letters" for output in outputs)


def test_every_reason_has_an_input_that_leads_to_it_and_no_other_is_given() -> None:
    elsewhere = {"batch_too_large", "batch_corrupt"}  # see test_fetching
    assert {reason for _, reason in REJECTED.values()} == REASONS.keys() - elsewhere


def test_bad_records_change_nothing_about_the_others() -> None:
    clean, poisoned = Bench(), Bench()
    good = [value for value, _ in USABLE.values()]
    clean.step(*good)
    mixed: list[bytes | None] = []
    for value, (bad, _) in zip(good * 4, REJECTED.values(), strict=False):
        mixed += [bad, value] if len(mixed) < 2 * len(good) else [bad]
    poisoned.step(*mixed)
    assert poisoned.tally() == {"accepted": len(good), "rejected": len(mixed) - len(good)}
    assert violations(poisoned) == violations(clean)
    vectors = [
        [window.vector.tolist() for cell in bench.state.cells.values() for window in cell.windows.values()]
        for bench in (clean, poisoned)
    ]
    assert vectors[0] == vectors[1]


def test_reasons_are_counted_exactly_however_they_are_mixed() -> None:
    rng = np.random.default_rng(3)
    kinds = [kind for kind in REJECTED if REJECTED[kind][1] != "too_large" and "nested" not in kind]
    bench, expected = Bench(), Counter[str]()
    for _ in range(20):
        chosen = [kinds[place] for place in rng.integers(len(kinds), size=rng.integers(1, 30))]
        expected.update(REJECTED[kind][1] for kind in chosen)
        letters = [each for each in bench.step(*(REJECTED[kind][0] for kind in chosen)) if each.topic == "dead_letters"]
        assert [dict(letter.headers)["reason"].decode() for letter in letters] == [REJECTED[kind][1] for kind in chosen]
    assert bench.rejected() == expected


def test_a_bad_timestamp_does_not_move_the_watermark() -> None:
    bench = Bench()
    bench.step(with_(), with_(timestamp=START_MS + YEAR_MS), with_(timestamp=-5), without("timestamp"))
    assert bench.state.highest_ms == START_MS + 10_000
    assert bench.state.closed_ms <= START_MS


def test_a_kafka_timestamp_beyond_all_bounds_is_a_bad_timestamp() -> None:
    stage = Bench().stage
    state, _ = stage.restore(0, {})
    stamps = [2**62, 10**14, -1]
    state, outputs = stage.step(
        state, [Record("predictions", 0, i, at, without("timestamp")) for i, at in enumerate(stamps)]
    )
    reasons = [dict(output.headers)["reason"] for output in outputs if output.topic == "dead_letters"]
    assert reasons == [b"bad_timestamp"] * 3
    assert state.highest_ms == -1


# The positional form.


def test_the_form_of_existing_loggers_is_taken_as_it_is() -> None:
    baseline = msgspec.structs.replace(churn("1"), model="house", version="v1.2").sealed()
    known = watching(Plan(default_model="house"), baseline)
    inputs = [41.5, 20_000.0, "de", "web"]
    record = Record("predictions", 0, 0, START_MS, orjson.dumps({**POSITIONAL, "input": inputs, "id": 7}))
    batch, rejected = wire.decode([record], known, MAX_BYTES)
    assert rejected == []
    [found] = batch.predictions
    assert not batch.dropped
    assert (found.model, found.version, found.prediction, found.id) == ("house", "v1.2", 0.9, 7)
    assert found.features == dict(zip(["age", "income", "country", "device"], inputs, strict=True))
    assert batch.event_ms.tolist() == [1_700_000_000_000]


def test_without_a_default_model_the_positional_form_lacks_a_field() -> None:
    record = Record("predictions", 0, 0, START_MS, orjson.dumps(POSITIONAL))
    [refused] = wire.decode([record], watching(Plan()), MAX_BYTES)[1]
    assert (refused.reason, refused.field) == ("missing_field", "model")
    assert "plan.default_model" in refused.wanted
    assert Bench().reasons(orjson.dumps({**POSITIONAL, "model": "ghost"})) == ["unknown_model"]


# What is written.


def alert(**fields: Any) -> Alert:
    given: dict[str, Any] = {
        "state": "firing", "kind": "drift", "severity": "warning", "model": "churn rate", "version": "3/β", "signal": "age",
        "detector": "marginal", "value": 0.5, "threshold": 0.1, "n": 100, "window": Window(START_MS, START_MS + 60_000),
        "time_ms": START_MS + 60_000, "baseline": "b" * 16, "plan": "p" * 16, "summary": "churn 3: age shifted.",
    }  # fmt: skip
    return Alert(**(given | fields)).identified()


def test_an_alert_is_a_cloud_event_in_binary_mode() -> None:
    said = alert()
    record = wire.alert_record(said)
    assert (record.topic, record.key, record.partition) == ("alerts", said.fingerprint.encode(), None)
    assert {name: text.decode() for name, text in record.headers} == {
        "ce_specversion": "1.0",
        "ce_id": said.id,
        "ce_source": "/driftline/churn%20rate/3%2F%CE%B2",
        "ce_type": "io.driftline.drift.firing.v1",
        "ce_time": "2023-11-14T22:15:00.000Z",
        "ce_subject": "age",
        "content-type": "application/json",
    }
    assert msgspec.json.decode(record.value, type=Alert) == said


def test_an_alert_on_a_whole_record_has_no_subject() -> None:
    said = alert(state="event", kind="outlier", signal="", origin=Origin("predictions", 3, 9), time_ms=START_MS + 7)
    headers = dict(wire.alert_record(said).headers)
    assert "ce_subject" not in headers
    assert headers["ce_time"] == b"2023-11-14T22:14:00.007Z"
    assert headers["ce_type"] == b"io.driftline.outlier.event.v1"


def test_documents_are_the_same_bytes_for_the_same_values() -> None:
    one, other = alert(segment={"a": "1", "b": "2"}), alert(segment={"b": "2", "a": "1"})
    assert wire.document(one) == wire.document(other)
    keys = list(orjson.loads(wire.document(one)))
    assert keys == sorted(keys)


CHANGE = ChangePoint("age", "adwin", 2, 5, START_MS, 0.0, 1.0)
PARTIAL = Partial(
    model="m",
    version="1",
    start_ms=START_MS,
    partition=2,
    baseline="b",
    upto=77,
    vector=b"12345678",
    itemsize=2,
    changes=(CHANGE,),
)


@pytest.mark.parametrize("item", [PARTIAL, Mark(3, 8, START_MS, idle=True)])
def test_what_the_stages_tell_each_other_comes_back(item: Partial | Mark) -> None:
    records = [wire.partial_record(item)] if isinstance(item, Partial) else wire.mark_records(item, 4)
    assert [wire.decode_stage_two(record.value) for record in records] == [item] * len(records)


def test_a_partial_goes_where_its_model_lives_and_a_mark_everywhere() -> None:
    assert (wire.partial_record(PARTIAL).key, wire.partial_record(PARTIAL).partition) == (b"m|1", None)
    assert [record.partition for record in wire.mark_records(Mark(0, 2, 0), 3)] == [0, 1, 2]


@pytest.mark.parametrize(
    "value", [None, b"", b"{}", b"\xc1", b"\x81\xa4type\xa5other", b"\x81\xa4type\xa1\xff", b"\x91" * 50_000]
)
def test_what_is_no_partial_is_refused(value: bytes | None) -> None:
    with pytest.raises(RecordError, match="invalid_partial"):
        wire.decode_stage_two(value)


def test_what_another_program_writes_to_partials_ends_no_worker(caplog: pytest.LogCaptureFixture) -> None:
    known = shared()
    stage = VerdictStage(Shared(known.watch, 2, 1, MAX_BYTES, Metrics("test")))
    [layout] = known.watch.layouts["churn", "1"]
    sound = msgspec.structs.replace(
        PARTIAL,
        model="churn",
        partition=0,
        baseline=layout.baseline.hash,
        vector=layout.reference.tobytes(),
        itemsize=8,
        changes=(),
    )
    vectors = [b"", b"123", bytes(8), (-layout.reference).tobytes(), layout.reference.tobytes() + bytes(8)]
    hostile = [msgspec.structs.replace(sound, start_ms=START_MS, vector=vector) for vector in vectors]
    hostile += [msgspec.structs.replace(sound, start_ms=START_MS, itemsize=size) for size in (-1, 0, 3, 4)]
    hostile += [
        msgspec.structs.replace(sound, start_ms=START_MS, duplicates=raw) for raw in (b"1", bytes(9), b"\xff" * 99)
    ]
    levels = [{"x": {"x" * 65: 1}}, {"x": {f"{n}": 1 for n in range(65)}}, {"x": {"x": 2**60}}, {"x": {"x": -1}}]
    hostile += [msgspec.structs.replace(sound, start_ms=START_MS, new_levels=each) for each in levels]
    marks = [Mark(place, 2, START_MS + YEAR_MS) for place in (0, 1)]
    sent = [*map(wire.partial_record, [sound, *hostile])]
    for mark in (Mark(5, 2, 0), Mark(0, 0, 0), *marks):
        sent += wire.mark_records(mark, 1)
    values = [b"\xc1", *(record.value for record in sent)]
    state, _ = stage.restore(0, {})
    state, outputs = stage.step(state, [Record("partials", 0, i, 0, value) for i, value in enumerate(values)])
    assert [orjson.loads(each.value)["n"] for each in outputs if each.topic == "windows"] == [1000]
    assert len(caplog.messages) == 1 + len(hostile) + 2
    assert state.next_offset == len(values)
