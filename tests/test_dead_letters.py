from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import orjson
import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import Plan
from driftline.streams.engine.dead_letters import Allowance
from driftline.streams.engine.profiling_stage import ProfilingStage
from driftline.streams.engine.shared import Shared
from driftline.streams.formats.rejections import MOST_SHOWN
from driftline.streams.observability.metrics import Metrics
from driftline.streams.worker.sink import StickyPartitioner
from tests.logs import START_MS, churn, watching
from tests.memory_broker import Record

N_FLOOD, PER_MINUTE = 1_000, 60


def flooded(allowance: Allowance) -> tuple[Metrics, int]:
    """Metrics and number of dead letters after a flood of records without sense."""
    metrics = Metrics("1.2.3")
    stage = ProfilingStage(Shared(Watch(Plan()), 1, 1, 2**20, metrics, allowance))
    state, _ = stage.restore(0, {})
    records = [Record("predictions", 0, offset, 0, b"{") for offset in range(N_FLOOD)]
    _, outputs = stage.step(state, records)
    return metrics, sum(each.topic == "dead_letters" for each in outputs)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"driftline_{name}_total", labels)


def test_a_flood_writes_as_many_dead_letters_as_are_allowed_and_counts_every_record() -> None:
    metrics, n_letters = flooded(Allowance(PER_MINUTE, lambda: 0.0))
    assert n_letters == value(metrics, "dead_letters") == PER_MINUTE
    assert value(metrics, "suppressed_dead_letters") == N_FLOOD - PER_MINUTE
    assert value(metrics, "records_rejected", reason="invalid_json") == N_FLOOD
    assert value(metrics, "records", result="rejected") == value(metrics, "records_in") == N_FLOOD


def test_without_a_cap_every_record_has_its_dead_letter() -> None:
    metrics, n_letters = flooded(Allowance())
    assert (n_letters, value(metrics, "suppressed_dead_letters")) == (N_FLOOD, 0)


def test_an_allowance_never_saves_more_than_a_minute() -> None:
    now_s = 0.0
    allowance = Allowance(PER_MINUTE, lambda: now_s)
    assert allowance.take(PER_MINUTE) == PER_MINUTE
    now_s = 10**6
    assert allowance.take(N_FLOOD) == PER_MINUTE
    assert allowance.take(1) == 0


def test_dead_letters_stay_on_one_partition_for_a_batch_and_come_to_all() -> None:
    choose, partitions = StickyPartitioner(), list(range(4))
    chosen = [choose(None, partitions, partitions) for _ in range(8 * choose.RUN)]
    assert Counter(chosen) == dict.fromkeys(partitions, 2 * choose.RUN)
    assert sum(one != other for one, other in pairwise(chosen)) == 8
    assert [choose(b"key", partitions, []) for _ in range(3)] == [DefaultPartitioner()(b"key", partitions, [])] * 3


# What a dead letter says of the fault.

GOOD: dict[str, Any] = {
    "model": "churn",
    "version": "1",
    "timestamp": START_MS,
    "features": {"age": 41.5, "country": "de"},
    "prediction": 0.2,
}


def headers(*changes: dict[str, Any]) -> list[dict[str, str]]:
    """Headers of the dead letters of good records with these changes."""
    tomorrow = churn("2", effective_from_ms=START_MS + 86_400_000)
    stage = ProfilingStage(Shared(watching(Plan(), churn("1"), tomorrow), 1, 1, 2**20, Metrics("1")))
    state, _ = stage.restore(0, {})
    values = [orjson.dumps({**GOOD, **each}) for each in changes]
    _, outputs = stage.step(
        state, [Record("predictions", 0, place, START_MS, each) for place, each in enumerate(values)]
    )
    letters = [each for each in outputs if each.topic == "dead_letters"]
    return [{name: text.decode("ascii") for name, text in each.headers} for each in letters]


@pytest.mark.parametrize(
    ("change", "reason", "field", "found", "wanted"),
    [
        ({"timestamp": "01/02/2024"}, "bad_timestamp", "timestamp", '"01/02/2024"', "the year first"),
        ({"prediction": [0.2, 0.8]}, "invalid_field", "prediction", "a list of 2", "a number, text"),
        ({"features": 7}, "invalid_field", "features", "7", "an object, from name to value"),
        ({"model": "ghost"}, "unknown_model", "model", '"ghost"', "driftline baseline publish"),
        ({"version": "9"}, "unknown_model", "version", '"9"', "driftline baseline publish"),
        ({"model": "a\nb|"}, "bad_name", "model", '"a\\nb|"', "printable characters"),
        ({"version": ""}, "bad_name", "version", '""', "printable characters"),
        ({"timestamp": START_MS + 10**9}, "ahead", "timestamp", str(START_MS + 10**9), "plan.max_ahead_ms"),
        ({"version": "2"}, "no_baseline_yet", "timestamp", str(START_MS), str(START_MS + 86_400_000)),
        ({"version": "2", "timestamp": None}, "no_baseline_yet", "timestamp", str(START_MS), "the first baseline"),
        ({"model": "x\x1b[2J" * 999}, "bad_name", "model", "... (4995 characters)", "1 to 128"),
    ],
)
def test_a_dead_letter_says_which_field_what_was_found_and_what_was_wanted(
    change: dict[str, Any], reason: str, field: str, found: str, wanted: str
) -> None:
    good, [letter] = headers({}), headers(change)
    assert good == []
    assert (letter["reason"], letter["field"]) == (reason, field)
    assert found == letter["found"] or letter["found"].endswith(found)
    assert wanted in letter["wanted"]
    assert all(text.isprintable() and len(text) < 250 for text in letter.values())


@given(value=st.text(max_size=200), field=st.sampled_from(["model", "version", "timestamp"]))
def test_what_was_found_is_shown_in_printable_ascii_and_never_whole_where_it_is_long(value: str, field: str) -> None:
    for letter in headers({field: value.encode(errors="replace").decode()}):
        assert all(text.isascii() and text.isprintable() for text in letter.values())
        assert len(letter["found"]) < 10 * MOST_SHOWN + 30


def test_of_a_mixed_batch_every_letter_has_its_own_details_in_log_order() -> None:
    found = headers({"model": "ghost"}, {"timestamp": "no"}, {}, {"features": 1}, {"version": "|"})
    assert [(each["offset"], each["reason"], each["found"]) for each in found] == [
        ("0", "unknown_model", '"ghost"'),
        ("1", "bad_timestamp", '"no"'),
        ("3", "invalid_field", "1"),
        ("4", "bad_name", '"|"'),
    ]


def test_fields_that_were_dropped_are_counted_by_name_under_few_labels() -> None:
    metrics = Metrics("1.2.3")
    stage = ProfilingStage(Shared(watching(Plan(), churn("1")), 1, 1, 2**20, metrics))
    state, _ = stage.restore(0, {})
    odd: list[dict[str, Any]] = [
        {"segment": 1, "label": {}},
        {"segment": {"a": 1}},
        {"features": {"age": [1], "any name": {}, "country": "de"}},
        {"id": [], "latency_ms": "1", "status": 1.5, "weight": "a"},
    ]
    values = [orjson.dumps({**GOOD, **each}) for each in odd]
    _, outputs = stage.step(
        state, [Record("predictions", 0, place, START_MS, each) for place, each in enumerate(values)]
    )
    assert all(each.topic != "dead_letters" for each in outputs)
    counted = {
        sample.labels["field"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "driftline_dropped_fields_total"
    }
    assert counted == {"segment": 2, "label": 1, "features": 2, "id": 1, "latency_ms": 1, "status": 1, "weight": 1}
    assert value(metrics, "records", result="accepted") == 4
