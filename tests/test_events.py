"""Single-record alerts: which records get one, what it says, and how many there may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from driftline.detectors.documents.predictions import NESTED
from driftline.detectors.layout.constraints import CONSTRAINTS
from driftline.detectors.plan import Plan, plan_from
from driftline.detectors.snapshots import profile_snapshot
from driftline.detectors.windows.profiling import PartitionState
from tests.logs import MINUTE_MS, START_MS, Profile, batch_of, by_the_minute, churn, plain, prediction, sample, watching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from driftline.detectors.documents.alerts import Alert
    from driftline.detectors.documents.predictions import Prediction

GOOD = sample(1, 1)[0]
BROKEN: dict[str, dict[str, Any]] = {
    "type": {"x": "one"},
    "null": {"y": None},
    "range": {"x": 1e6},
    "category": {"colour": "mauve"},
    "finite": {"x": "NaN"},
}

EVERY = Plan(events_per_million=1e12)  # whatever occurs is told
"""A plan under which every occurrence is told."""


def odd(**features: Any) -> Prediction:
    return prediction({**GOOD.features, **features}, GOOD.prediction)


def told(rows: Sequence[Prediction], plan: Plan | None = None) -> list[Alert]:
    """Events about data quality of one batch."""
    found = Profile(PartitionState(0, 1))
    found.step(batch_of(rows, START_MS), watching(plan or EVERY, plain()))
    return [event for event in found.events if event.kind == "data_quality"]


def test_every_constraint_has_its_record_here() -> None:
    assert BROKEN.keys() == set(CONSTRAINTS)


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_a_record_that_breaks_a_constraint_gets_one_alert_that_points_at_it(constraint: str) -> None:
    rows = [*sample(5, 2), odd(**BROKEN[constraint]), *sample(5, 3)]
    [event] = told(rows)
    [(signal, _)] = BROKEN[constraint].items()
    assert (event.state, event.detector, event.signal, event.n) == ("event", constraint, signal, 1)
    assert event.origin is not None
    assert (event.origin.topic, event.origin.partition, event.origin.offset) == ("predictions", 0, 5)
    assert (event.window.start_ms, event.time_ms) == (START_MS, START_MS)
    assert event.summary.startswith(f"m 1: {signal} ")
    assert event.summary.endswith("see predictions[0] offset 5.")


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_a_constraint_that_is_off_makes_no_alert_and_no_count(constraint: str) -> None:
    rows = [*sample(5, 2), odd(**BROKEN[constraint])]
    off = plan_from({"detectors": {constraint: {"enabled": False}}})
    assert not told(rows, off)
    [verdict] = by_the_minute(watching(off, plain()), rows).final.values()
    assert not verdict.violations
    [verdict] = by_the_minute(watching(Plan(), plain()), rows).final.values()
    assert [*verdict.violations.values()] == [{constraint: 1}]


def test_a_value_outside_its_range_is_told_with_the_bound_that_it_broke() -> None:
    plan = plan_from({"models": {"m": {"signals": {"x": {"detectors": {"range": {"low": -3, "high": 4}}}}}}})
    low, high = told([odd(x=-3.5), odd(x=-3), odd(x=4), odd(x=4.5)], plan)
    assert (low.value, low.threshold, high.value, high.threshold) == (-3.5, -3.0, 4.5, 4.0)
    assert "x = 4.5 lies outside [-3, 4]" in high.summary


def test_what_the_baseline_did_itself_is_no_event() -> None:
    watch, found = watching(Plan(), churn()), Profile(PartitionState(0, 1))
    rows = [prediction({"age": 40.0, "income": None, "country": "de", "device": None}, 0.3, "churn")] * 3
    found.step(batch_of(rows, START_MS), watch)
    assert found.events == []


def test_events_come_by_record_then_constraint_then_signal() -> None:
    plan = Plan(events_per_window=10, events_per_million=1e12)
    rows = [odd(colour="mauve", y=None, x=None), odd(x="one")]
    events = told(rows, plan)
    assert [(event.origin.offset, event.detector, event.signal) for event in events if event.origin] == [
        (0, "null", "x"),
        (0, "null", "y"),
        (0, "category", "colour"),
        (1, "type", "x"),
    ]


def test_each_window_partition_and_kind_has_its_own_allowance_and_the_rest_is_counted() -> None:
    plan = plan_from({"events_per_window": 2, "detectors": {"half_space_trees": {"threshold": 0.9}}})
    watch = watching(plan, plain())
    rows = [odd(x=100.0 + place, y=100.0) for place in range(5)]
    profiles = [Profile(PartitionState(partition, 2)) for partition in range(2)]
    for partition, found in enumerate(profiles):
        for minute in range(2):
            found.step(batch_of(rows, START_MS + minute * MINUTE_MS, 5 * minute, partition), watch)
    for found in profiles:
        kinds = [(event.kind, event.window.start_ms) for event in found.events]
        for kind in ("data_quality", "outlier"):
            assert [at for each, at in kinds if each == kind] == [START_MS] * 2 + [START_MS + MINUTE_MS] * 2
    state = profiles[0].state.cells["m", "1"].windows[START_MS]
    assert state.layout.violations(state.vector).sum() == 10  # x and y of five records
    assert len({event.id for found in profiles for event in found.events}) == 16


def test_an_allowance_that_came_down_while_a_window_was_open_lets_nothing_more_through() -> None:
    generous, strict = (
        watching(plan_from({"events_per_window": n, "detectors": {"half_space_trees": {"threshold": 0.9}}}), plain())
        for n in (3, 1)
    )
    found, rows = Profile(PartitionState(0, 1)), [odd(x=100.0, y=100.0)] * 5
    found.step(batch_of(rows, START_MS), generous)
    assert len(found.events) == 6  # of two kinds
    saved = dict(profile_snapshot.dump(found.state, generous))
    found.state, _ = profile_snapshot.load(0, 1, saved, strict)
    found.step(batch_of(rows, START_MS, 5), strict)
    assert len(found.events) == 6


def test_none_are_told_where_the_plan_allows_none() -> None:
    assert told([odd(x=1e6)], plan_from({"events_per_window": 0})) == []


def test_a_record_that_is_unlike_all_others_as_a_whole_is_an_outlier_with_its_p_value() -> None:
    plan = plan_from({"detectors": {"half_space_trees": {"threshold": 0.001}, "range": {"enabled": False}}})
    found = Profile(PartitionState(0, 1))
    found.step(batch_of([*sample(200, 5), odd(x=6.0, y=-6.0)], START_MS), watching(plan, plain()))
    event = found.events[-1]
    assert event.origin is not None
    assert (event.kind, event.detector, event.signal, event.origin.offset) == ("outlier", "half_space_trees", "", 200)
    assert event.threshold == 0.001
    assert event.value == event.p_value
    assert (event.p_value or 1) <= 0.001


def test_a_record_read_twice_is_the_same_alert() -> None:
    assert told([odd(x=1e6)])[0].id == told([odd(x=1e6)])[0].id
    assert told([GOOD, odd(x=1e6)])[0].id != told([odd(x=1e6)])[0].id


def test_a_number_as_text_is_counted_and_an_event_only_where_the_baseline_never_had_one() -> None:
    rows = [odd(x="0.5"), odd(x=0.5), odd(x="one"), odd(y="0.5")]
    texts = {"x": 7, "y": 0}
    known = {name: msgspec.structs.replace(plain().signals[name], text=text) for name, text in texts.items()}
    baseline = msgspec.structs.replace(plain(), signals={**plain().signals, **known}).sealed()
    found = Profile(PartitionState(0, 1))
    found.step(batch_of(rows, START_MS), watching(EVERY, baseline))
    assert [(each.signal, each.detector) for each in found.events if each.kind == "data_quality"] == [("y", "type")]
    [window] = found.state.cells["m", "1"].windows.values()
    counted = window.layout.violations(window.vector)[CONSTRAINTS.index("type")]
    assert dict(zip(window.layout.signals, counted.tolist(), strict=True)) == {
        "x": 2, "y": 1, "colour": 0, "prediction": 0
    }  # fmt: skip


def test_a_list_is_one_violation_of_its_type_and_none_of_being_missing() -> None:
    assert [(each.detector, each.signal) for each in told([odd(x=NESTED), odd(colour=NESTED)])] == [
        ("type", "x"),
        ("type", "colour"),
    ]
