from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from driftline.detectors.baselines.fit import fit
from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import Plan
from driftline.detectors.snapshots import verdict_snapshot
from driftline.detectors.verdicts.fleet import FleetState, ModelState
from driftline.detectors.verdicts.policy import Standing
from driftline.streams.engine.profiling_stage import ProfilingStage
from driftline.streams.engine.shared import Shared
from driftline.streams.engine.verdict_stage import VerdictStage
from driftline.streams.formats.wire import Remains
from driftline.streams.observability.drift_gauge import MAX_SERIES, DriftGauge
from driftline.streams.observability.metrics import Metrics

DOCS = Path(__file__).resolve().parent.parent / "docs"
MAX_BYTES = 2_000
NOW_MS = 1_700_000_000_000


class Row(NamedTuple):
    name: str
    kind: str
    labels: tuple[str, ...]


def documented() -> list[Row]:
    lines = re.findall(r"^\| `(driftline_\w+)` \| (\w+) \| (.*?) \| .+? \| .+? \|$", table(), re.MULTILINE)
    return [Row(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in lines]


def table() -> str:
    return (DOCS / "metrics.md").read_text().replace("| |", "|  |")  # an empty cell


def registered() -> list[Row]:
    return [
        Row(each.name, "gauge", each.labels)
        if isinstance(each, DriftGauge)
        else Row(shown_name(each), str(each._type), tuple(each._labelnames))
        for each in vars(Metrics("1.2.3")).values()
        if isinstance(each, MetricWrapperBase | DriftGauge)
    ]


def shown_name(metric: MetricWrapperBase) -> str:
    return f"{metric._name}_total" if metric._type == "counter" else metric._name


EVERY = pytest.mark.parametrize("row", registered(), ids=lambda row: row.name)


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return what a scrape sees."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"driftline_{name}", labels)


# The manual.


def test_the_manual_has_every_metric_with_its_type_and_labels() -> None:
    assert documented() == registered()


def test_the_alerting_rules_of_the_manual_name_metrics_that_exist() -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", (DOCS / "metrics.md").read_text(), re.DOTALL)
    rules = yaml.safe_load(text)["groups"][0]["rules"]
    known = {row.name: row.labels for row in registered()}
    for rule in rules:
        named = re.findall(r"driftline_\w+", rule["expr"])
        assert named
        assert set(named) <= known.keys(), rule["alert"]


# Naming: https://prometheus.io/docs/practices/naming


@EVERY
def test_a_name_begins_with_the_application_and_is_lower_case(row: Row) -> None:
    assert re.fullmatch(r"driftline(_[a-z]+)+", row.name)


@EVERY
def test_a_counter_is_a_total_and_nothing_else_is(row: Row) -> None:
    assert row.name.endswith("_total") == (row.kind == "counter")


@EVERY
def test_units_are_base_units(row: Row) -> None:
    assert not set(row.name.split("_")) & {"ms", "milliseconds", "minutes", "hours", "percent", "kilobytes", "mb"}
    assert ("seconds" in row.name) == row.name.endswith("_seconds")
    assert row.kind != "histogram" or row.name.endswith(("_seconds", "_bytes"))


@EVERY
def test_labels_are_few_and_not_reserved(row: Row) -> None:
    assert len(set(row.labels)) == len(row.labels) <= 4
    assert not set(row.labels) & {"le", "quantile", "job", "instance"}
    assert not any(
        label in row.name
        for label in row.labels
        if label not in ("version", "detector", "kind", "stage", "model", "field")
    )


def test_every_metric_says_what_it_is() -> None:
    families = [each for each in Metrics("1.2.3").registry.collect() if not each.name.endswith("_created")]
    ours = [family for family in families if family.name.startswith("driftline_")]
    assert len(ours) == len(registered())
    for family in ours:
        assert family.documentation.endswith("."), family.name


def test_what_a_worker_holds_of_its_machine_is_told_and_documented() -> None:
    told = {each.name for each in Metrics("1.2.3").registry.collect() if each.name.startswith("process_")}
    assert {"process_resident_memory_bytes", "process_open_fds"} <= told
    documented = set(re.findall(r"`(process_\w+)`", table()))
    assert {name.removesuffix("_total") for name in documented} == told


# The exposition.


def test_the_exposition_is_read_back_by_prometheus_own_parser() -> None:
    metrics = Metrics("1.2.3")
    metrics.batch_seconds.labels("profiling").observe(0.01)
    metrics.drift_score.set(("churn", "v3"), 'age\n"quoted" \\ µ', "psi", 0.25)
    metrics.records.labels("late").inc(3)
    seen = samples(metrics)
    labels = {"model": "churn", "version": "v3", "signal": 'age\n"quoted" \\ µ', "detector": "psi"}
    assert seen["driftline_drift_score", frozenset(labels.items())] == 0.25
    assert seen["driftline_batch_duration_seconds_count", frozenset({("stage", "profiling")})] == 1
    assert seen["driftline_records_total", frozenset({("result", "late")})] == 3
    assert seen["driftline_build_info", frozenset({("version", "1.2.3")})] == 1


@pytest.mark.parametrize("result", ["accepted", "late", "rejected", "flush_mark", "replay_skipped"])
def test_the_results_of_records_are_there_before_the_first_record(result: str) -> None:
    assert value(Metrics("1.2.3"), "records_total", result=result) == 0


# The cap on series, and forgetting.


def place(n: int) -> tuple[tuple[str, str], str, str]:
    return ("churn", f"v{n % 2}"), f"signal {n}", "psi"


def n_scores(metrics: Metrics) -> int:
    [family] = metrics.drift_score.collect()
    return len(family.samples)


def test_series_beyond_the_cap_are_counted_and_not_exported() -> None:
    metrics = Metrics("1.2.3")
    for n in range(MAX_SERIES + 7):
        metrics.drift_score.set(*place(n), 0.5)
    metrics.drift_active.set(*place(0), 1.0)  # an open alert is not kept out by scores
    metrics.drift_score.set(*place(3), 0.75)  # one that is there goes on
    assert n_scores(metrics) == MAX_SERIES
    assert value(metrics, "series_dropped_total") == 7
    assert len(next(iter(metrics.drift_active.collect())).samples) == 1
    (model, version), signal, detector = place(3)
    assert value(metrics, "drift_score", model=model, version=version, signal=signal, detector=detector) == 0.75

    metrics.forget([("churn", "v0")])
    metrics.drift_score.set(*place(MAX_SERIES + 1), 1.0)  # there is room again
    assert n_scores(metrics) == MAX_SERIES / 2 + 1
    assert value(metrics, "series_dropped_total") == 7


def test_ten_thousand_models_make_no_more_series_than_the_cap_and_every_other_value_is_counted() -> None:
    metrics = Metrics("1.2.3")
    models, signals = 10_000, 21
    for model in range(models):
        for signal in range(signals):
            metrics.drift_score.set((f"m{model}", "1"), f"x{signal}", "psi", 0.5)
    assert n_scores(metrics) == MAX_SERIES
    assert value(metrics, "series_dropped_total") == models * signals - MAX_SERIES


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("12"), st.sampled_from("xyz")), max_size=12))
def test_what_is_forgotten_is_gone_and_nothing_else(named: list[tuple[str, str, str]]) -> None:
    metrics = Metrics("1.2.3")
    for model, version, signal in named:
        metrics.drift_score.set((model, version), signal, "psi", 0.5)
        metrics.drift_active.set((model, version), signal, "drift", 1.0)
    metrics.forget([("a", "1"), ("never", "seen")])
    families = [family for gauge in (metrics.drift_score, metrics.drift_active) for family in gauge.collect()]
    left = [sample.labels for family in families for sample in family.samples]
    expected = {each for each in named if each[:2] != ("a", "1")}
    assert len(left) == 2 * len(expected)
    assert {(labels["model"], labels["version"], labels["signal"]) for labels in left} == expected


# The stages on top of it.


@dataclass
class Record:
    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes | None
    timestamp_type: int = 1


@cache
def watch() -> Watch:
    rng = np.random.default_rng(0)
    columns = {"age": rng.normal(40, 10, 500).tolist(), "prediction": rng.random(500).tolist()}
    return Watch(Plan()).with_baseline(fit("churn", "v1", columns))


def shared() -> Shared:
    return Shared(watch(), 1, 1, MAX_BYTES, Metrics("1.2.3"))


def prediction(**changed: Any) -> bytes:
    document = {"model": "churn", "version": "v1", "features": {"age": 41.0}, "prediction": 0.5, "timestamp": NOW_MS}
    return json.dumps(document | changed).encode()


def records(*values: bytes | None, first: int = 0) -> list[Record]:
    return [Record("predictions", 0, first + place, NOW_MS, value) for place, value in enumerate(values)]


def test_a_revoked_partition_takes_its_series_along() -> None:
    common = shared()
    metrics = common.metrics
    profiling, judging = ProfilingStage(common), VerdictStage(common)
    state, _ = profiling.restore(0, {})
    state, _ = profiling.step(state, records(prediction()))
    for version in ("v1", "v2"):
        metrics.drift_active.set(("churn", version), "age", "drift", 1.0)
    assert value(metrics, "watermark_timestamp_seconds", partition="0") is not None

    profiling.released(state)
    judging.released(FleetState(0, models={("churn", "v1"): ModelState(("churn", "v1"))}))
    assert value(metrics, "watermark_timestamp_seconds", partition="0") is None
    assert value(metrics, "drift_active", model="churn", version="v1", signal="age", kind="drift") is None
    assert value(metrics, "drift_active", model="churn", version="v2", signal="age", kind="drift") == 1


REJECTED = {
    "tombstone": None,
    "too_large": prediction(id="x" * MAX_BYTES),
    "batch_too_large": Remains("batch_too_large"),
    "batch_corrupt": Remains("batch_corrupt"),
    "invalid_utf8": prediction(id="x").replace(b'"x"', b'"\xff"'),
    "invalid_json": b"{",
    "missing_field": b'{"model": "churn", "version": "v1"}',
    "invalid_field": prediction(features=[1]),
    "unsupported_format": b"\0\0\0\0\x07{}",
    "bad_timestamp": prediction(timestamp="yesterday"),
    "ahead": prediction(timestamp=NOW_MS + 365 * 86_400_000),
    "unknown_model": prediction(model="other"),
    "bad_name": prediction(model="a\u0000b"),
}


@pytest.mark.parametrize("reason", REJECTED)
def test_a_record_is_rejected_for_the_reason_in_the_manual(reason: str) -> None:
    common = shared()
    stage = ProfilingStage(common)
    state, _ = stage.restore(0, {})
    stage.step(state, records(REJECTED[reason]))
    assert value(common.metrics, "records_rejected_total", reason=reason) == 1
    assert reason in reasons_in_the_manual()


def reasons_in_the_manual() -> list[str]:
    section = (DOCS / "operations.md").read_text().partition("\n## Dead letters\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_the_manual_lists_no_other_reasons() -> None:
    need_a_state = {"no_baseline_yet"}  # of time, not of the record's bytes
    assert sorted(reasons_in_the_manual()) == sorted(REJECTED.keys() | need_a_state)


@given(
    st.lists(
        st.lists(st.sampled_from([*REJECTED.values(), prediction(), prediction(timestamp=1)]), min_size=1, max_size=5),
        max_size=4,
    )
)
def test_what_came_in_is_what_was_counted_after_every_batch(batches: list[list[bytes | None]]) -> None:
    common = shared()
    stage = ProfilingStage(common)
    state, _ = stage.restore(0, {})
    came = 0
    for values in batches:
        for _ in ("once", "once more, as after a rebalance"):
            state, _ = stage.step(state, records(*values, first=came))
        came += len(values)
        counted = {
            result: value(common.metrics, "records_total", result=result) or 0.0
            for result in ("accepted", "late", "rejected", "flush_mark", "replay_skipped")
        }
        assert sum(counted.values()) == value(common.metrics, "records_in_total") == 2 * came
        assert counted["replay_skipped"] == came


def test_an_alert_that_another_worker_opened_shows_after_a_takeover() -> None:
    watch = Watch(Plan())
    state = FleetState(0)
    state.models["churn", "1"] = ModelState(("churn", "1"), standings={("drift", "age"): Standing((True,), "warning")})
    metrics = Metrics("1.0")
    VerdictStage(Shared(watch, 1, 1, 2**20, metrics)).restore(0, dict(verdict_snapshot.dump(state, watch)))
    labels = {"model": "churn", "version": "1", "signal": "age", "kind": "drift"}
    assert metrics.registry.get_sample_value("driftline_drift_active", labels) == 1.0
