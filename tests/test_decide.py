"""What a window's counts say: which detector decides, which only reports, and what the plan changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.detectors.plan import Plan, plan_from
from driftline.detectors.statistics.distances import DISTANCES
from tests.logs import START_MS, by_the_minute, plain, prediction, sample, watching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from driftline.detectors.documents.predictions import Prediction
    from driftline.detectors.verdicts.decide import Verdict

OFF = {"enabled": False}
SHIFTED = sample(400, 3, shift=0.8)


def judged(rows: Sequence[Prediction], document: dict[str, Any] | None = None) -> Verdict:
    """Final verdict on one window of these rows."""
    outcome = by_the_minute(watching(plan_from(document or {}), plain()), rows)
    return outcome.final["m", "1", START_MS]


def changed(rows: Sequence[Prediction], every: int, **features: Any) -> list[Prediction]:
    """Rows with some features replaced in every nth of them."""
    return [
        prediction({**row.features, **features}, row.prediction) if place % every == 0 else row
        for place, row in enumerate(rows)
    ]


def moved(verdict: Verdict) -> set[str]:
    return {name for name, signal in verdict.signals.items() if signal.drift}


def test_rows_like_the_baseline_are_stable() -> None:
    verdict = judged(sample(400, 3))
    assert (verdict.status, verdict.drift, moved(verdict)) == ("stable", False, set())
    assert {signal.drift for signal in verdict.signals.values()} == {False}


def test_a_shift_is_drift_of_that_signal_and_says_how() -> None:
    verdict = judged(SHIFTED)
    assert (verdict.status, moved(verdict)) == ("drift", {"x"})
    assert verdict.signals["x"].cause == "location"
    assert (verdict.signals["x"].p_value or 1) < 1e-20


@pytest.mark.parametrize(
    ("features", "name", "cause"),
    [({"y": None}, "y", "missing"), ({"colour": "mauve"}, "colour", "unseen"), ({"y": "NaN"}, "y", "nonfinite")],
)
def test_values_that_are_no_values_are_drift_of_their_own(features: dict[str, Any], name: str, cause: str) -> None:
    verdict = judged(changed(sample(400, 3), 10, **features))
    assert moved(verdict) == {name}
    assert verdict.signals[name].cause == cause
    assert getattr(verdict.signals[name], cause) == 40


def test_a_window_below_the_minimum_is_insufficient_whatever_it_holds() -> None:
    verdict = judged(SHIFTED[:99])
    assert (verdict.status, verdict.drift, verdict.n) == ("insufficient", None, 99)
    assert {(signal.drift, signal.p_value) for signal in verdict.signals.values()} == {(None, None)}
    assert verdict.outliers.drift is verdict.outliers.p_value is None
    assert (verdict.signals["x"].scores["psi"] or 0) > 0.2  # reported all the same
    assert judged(SHIFTED[:100]).status == "drift"


def test_the_minimum_can_be_set_for_one_model() -> None:
    assert judged(SHIFTED[:50], {"models": {"m": {"min_rows": 50}}}).status == "drift"
    assert judged(SHIFTED, {"models": {"other": {"min_rows": 1000}}}).status == "drift"
    assert judged(SHIFTED, {"models": {"m": {"min_rows": 401}}}).status == "insufficient"


def test_distances_are_reported_and_decide_nothing_as_shipped() -> None:
    verdict = judged(SHIFTED, {"detectors": {"marginal": OFF}})
    assert (verdict.signals["x"].scores["psi"] or 0) > 0.25
    assert (verdict.drift, moved(verdict)) == (False, set())


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_distance_decides_where_the_plan_gives_it_a_threshold(distance: str) -> None:
    value = judged(SHIFTED).signals["x"].scores[distance] or 0
    others = [judged(SHIFTED).signals[name].scores[distance] or 0 for name in ("y", "colour", "prediction")]
    assert max(others) < value
    below, above = (max(others) + value) / 2, value * 1.01
    alone = {"marginal": OFF, "outlier_rate": OFF}
    assert moved(judged(SHIFTED, {"detectors": {**alone, distance: {"threshold": below}}})) == {"x"}
    assert moved(judged(SHIFTED, {"detectors": {**alone, distance: {"threshold": above}}})) == set()


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_distance_that_is_off_is_not_reported(distance: str) -> None:
    verdict = judged(SHIFTED, {"detectors": {distance: OFF}})
    assert {distance not in signal.scores for signal in verdict.signals.values()} == {True}
    assert len(verdict.signals["x"].scores) == len(DISTANCES) - 1


def test_distances_that_need_an_order_have_none_for_categories() -> None:
    scores = judged(SHIFTED).signals["colour"].scores
    assert {name for name, score in scores.items() if score is None} == {"ks", "wasserstein"}


def test_the_marginal_test_can_be_switched_off_for_one_signal_of_one_model() -> None:
    plan = {"models": {"m": {"signals": {"x": {"detectors": {"marginal": OFF}}}}}}
    verdict = judged(SHIFTED, plan)
    assert (verdict.status, verdict.signals["x"].p_value, verdict.signals["x"].drift) == ("stable", None, None)
    assert verdict.signals["y"].p_value is not None
    assert judged(SHIFTED, {"models": {"other": plan["models"]["m"]}}).status == "drift"


def test_a_threshold_can_be_set_for_one_signal() -> None:
    strict = {"models": {"m": {"signals": {"x": {"detectors": {"marginal": {"threshold": 1e-99}}}}}}}
    assert judged(SHIFTED, strict).status == "stable"


@pytest.mark.parametrize(
    ("detector", "features", "name"), [("missing", {"y": None}, "y"), ("unseen", {"colour": "mauve"}, "colour")]
)
def test_the_share_of_missing_or_unseen_values_can_be_left_out(
    detector: str, features: dict[str, Any], name: str
) -> None:
    rows = changed(sample(400, 3), 40, **features)
    assert moved(judged(rows)) == {name}
    assert moved(judged(rows, {"detectors": {detector: OFF}})) == set()


def is_faint(verdict: Verdict) -> bool:
    """Whether x alone moved, and too little for an alarm of four signals."""
    p_values = {name: signal.p_value or 0 for name, signal in verdict.signals.items()}
    return 0.0015 < p_values.pop("x") < 0.02 and min(p_values.values()) > 0.3


def test_a_new_level_explains_the_shape_that_it_changes() -> None:
    for every in (2, 4, 8, 16, 32):
        verdict = judged(changed(sample(400, 3), every, colour="mauve"))
        assert verdict.signals["colour"].cause == "unseen"


def test_once_a_window_alarms_signals_that_moved_less_are_named_too() -> None:
    faint = next(rows for seed in range(100) if is_faint(judged(rows := sample(400, seed, shift=0.15))))
    assert judged(faint).status == "stable"
    both = changed(faint, 10, colour="mauve")
    assert moved(judged(both)) == {"x", "colour"}


def test_more_outliers_than_in_the_baseline_are_drift_without_any_margin_that_moved() -> None:
    plan = {"outlier_share": 0.05, "detectors": {"marginal": OFF}}
    # Both features stay within what is usual for each; together they are not.
    rows = changed(sample(400, 3), 4, x=2.2, y=-2.2)
    verdict = judged(rows, plan)
    assert (verdict.outliers.drift, verdict.drift, moved(verdict)) == (True, True, set())
    assert verdict.outliers.scored == 400
    assert verdict.outliers.outliers > 60
    assert verdict.outliers.expected_share == pytest.approx(0.05, rel=0.15)  # tied scores rank by the highest
    off = judged(rows, {**plan, "detectors": {"marginal": OFF, "outlier_rate": OFF}})
    assert (off.outliers.p_value, off.outliers.drift, off.drift) == (None, None, False)


def test_a_window_of_late_records_only_has_no_counts_and_is_insufficient() -> None:
    outcome = by_the_minute(watching(Plan(min_rows=1), plain()), sample(5, 1))
    verdict = outcome.final["m", "1", START_MS]
    assert (verdict.n, verdict.late, verdict.status) == (5, 0, "stable")
    assert {sum(signal.counts) for signal in verdict.signals.values()} == {5}


def test_what_broke_a_constraint_is_counted_by_signal() -> None:
    verdict = judged([*changed(sample(400, 3), 100, x=99.0), prediction({"x": "one", "y": None, "colour": "red"}, 0.5)])
    assert verdict.violations == {"x": {"range": 4, "type": 1}, "y": {"null": 1}}
    assert verdict.signals["x"].nonfinite == 1


rules = st.fixed_dictionaries(
    {},
    optional={
        "marginal": st.sampled_from([OFF, {"threshold": 0.2}, {"threshold": 1e-9}]),
        "missing": st.just(OFF),
        "unseen": st.just(OFF),
        "psi": st.sampled_from([OFF, {"threshold": 0.03}, {"threshold": 0.3}]),
        "ks": st.sampled_from([OFF, {"threshold": 0.08}]),
    },
)
plans = st.fixed_dictionaries(
    {},
    optional={
        "detectors": rules.flatmap(
            lambda own: st.sampled_from(
                [own, {**own, "outlier_rate": OFF}, {**own, "outlier_rate": {"threshold": 0.3}}]
            )
        ),
        "models": st.dictionaries(st.sampled_from(["x", "y", "colour", "prediction"]), rules, max_size=4).map(
            lambda signals: {"m": {"signals": {name: {"detectors": own} for name, own in signals.items()}}}
        ),
    },
)
ROWS = [
    sample(400, 3),
    sample(400, 4, shift=0.2),
    SHIFTED,
    changed(sample(400, 3), 20, y=None),
    changed(sample(400, 5, shift=0.15), 20, colour="mauve"),
    changed(sample(400, 3), 4, x=2.2, y=-2.2),
    sample(60, 3, shift=2.0),
]


@settings(max_examples=150, deadline=None)
@given(document=plans, rows=st.sampled_from(ROWS))
def test_a_window_drifts_if_and_only_if_something_alarms_whatever_the_plan_has_off(
    document: dict[str, Any], rows: list[Prediction]
) -> None:
    plan = plan_from(document)
    outcome = by_the_minute(watching(plan, plain()), rows)
    verdict = outcome.final["m", "1", START_MS]
    own = [alert for alert in outcome.judged.alerts if alert.window == verdict.window and alert.kind != "change_point"]
    assert (verdict.status == "drift") == bool(own)
    assert {alert.signal for alert in own} == {
        *(name for name, signal in verdict.signals.items() if signal.detector),
        *([""] if verdict.outliers.drift else []),
    }
    n_tested = sum(signal.adjusted is not None for signal in verdict.signals.values())
    for name, signal in verdict.signals.items():
        threshold = plan.rule("marginal", "m", name).threshold or 0.0
        assert (signal.detector == "marginal") == (signal.adjusted is not None and signal.adjusted <= threshold)
        if signal.adjusted is not None:
            assert signal.adjusted == min(1.0, n_tested * (signal.p_value or 0.0))
    for alert in own:
        if alert.p_value is not None and alert.detector not in DISTANCES:
            assert (alert.value or 0.0) <= (alert.threshold or 0.0)


def test_a_signal_whose_test_is_off_is_not_counted_among_the_tested() -> None:
    off = {
        "models": {"m": {"signals": {name: {"detectors": {"marginal": OFF}} for name in ("y", "colour", "prediction")}}}
    }
    alone, all_on = judged(SHIFTED, off).signals["x"], judged(SHIFTED).signals["x"]
    assert alone.adjusted == alone.p_value == all_on.p_value
    assert all_on.adjusted == 4 * (all_on.p_value or 0.0)


def test_parts_that_are_off_are_not_counted_among_the_tests_of_a_signal() -> None:
    rows = changed(sample(400, 3), 40, colour=None)
    all_on, off = (judged(rows, plan).signals["colour"] for plan in ({}, {"detectors": {"missing": OFF}}))
    assert all_on.cause == "missing"
    shape = off.p_value or 0.0
    assert all_on.p_value is not None
    assert off.cause == "shape"
    assert shape > all_on.p_value
    # Nothing but shape is left that could reject, so nothing is paid for: no level is rare, none unseen.
    assert (
        judged(sample(400, 3)).signals["colour"].p_value
        == judged(sample(400, 3), {"detectors": {"missing": OFF}}).signals["colour"].p_value
    )
