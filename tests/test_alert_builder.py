"""Alerts on windows: what they name, and that a person can act on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from driftline.detectors.layout.vector_layout import Layout
from driftline.detectors.plan import Plan, plan_from
from driftline.detectors.verdicts.alert_builder import cell_labels
from tests.logs import MINUTE_MS, START_MS, by_the_minute, plain, prediction, sample, watching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from driftline.detectors.documents.alerts import Alert
    from driftline.detectors.documents.predictions import Prediction

ALONE = {name: {"enabled": False} for name in ("adwin", "adwin_scale", "outlier_rate")}


def alerts(*minutes: Sequence[Prediction], **plan: Any) -> list[Alert]:
    """Alerts on windows of these rows."""
    document = {**plan, "detectors": {**ALONE, **plan.get("detectors", {})}}
    return by_the_minute(watching(plan_from(document), plain()), *minutes).judged.alerts


def changed(seed: int, every: int, **features: Any) -> list[Prediction]:
    return [
        prediction({**row.features, **features}, row.prediction) if place % every == 0 else row
        for place, row in enumerate(sample(400, seed))
    ]


def test_a_shift_is_told_with_its_p_value_its_threshold_and_the_bins_that_moved_most() -> None:
    [alert] = alerts(sample(400, 1, shift=0.8))
    assert (alert.kind, alert.state, alert.severity, alert.signal) == ("drift", "firing", "warning", "x")
    assert (alert.detector, alert.threshold, alert.n) == ("marginal", 0.00525, 400)
    assert alert.value == pytest.approx(4 * (alert.p_value or 1))  # Bonferroni over four signals
    assert (alert.window.start_ms, alert.time_ms) == (START_MS, START_MS + MINUTE_MS)
    moves = [abs(each.window_share - each.baseline_share) for each in alert.evidence]
    assert len(moves) == 3
    assert moves == sorted(moves, reverse=True)
    assert alert.evidence[0].bin.startswith(">= ")
    assert alert.summary.startswith("m 1: x shifted (p = ")
    assert "5.0% -> " in alert.summary
    assert (alert.baseline, alert.final) == (plain().hash, True)


@pytest.mark.parametrize(
    ("features", "signal", "detector", "bin_name", "said"),
    [
        ({"y": None}, "y", "missing", "missing", "y changed its share of missing values"),
        ({"colour": "mauve"}, "colour", "unseen", "unseen", "colour has levels that the baseline never had"),
        ({"y": "NaN"}, "y", "nonfinite", "not finite", "y changed its share of values that are not finite"),
    ],
)
def test_values_that_are_no_values_are_a_matter_of_data_quality(
    features: dict[str, Any], signal: str, detector: str, bin_name: str, said: str
) -> None:
    [alert] = alerts(changed(1, 5, **features))
    assert (alert.kind, alert.signal, alert.detector) == ("data_quality", signal, detector)
    [moved] = [each for each in alert.evidence if each.bin == bin_name]
    assert (moved.baseline_share, moved.window_share) == (0.0, 0.2)
    assert said in alert.summary
    assert f"{bin_name}: 0.0% -> 20.0%" in alert.summary


def test_a_changed_spread_is_told_as_one() -> None:
    rows = [
        prediction({**row.features, "y": 2 * float(row.features["y"] or 0)}, row.prediction) for row in sample(400, 1)
    ]
    [alert] = [each for each in alerts(rows) if each.signal == "y"]
    assert "y changed its spread" in alert.summary


def test_a_distance_that_decided_is_named_with_its_own_threshold() -> None:
    [alert] = alerts(sample(400, 1, shift=0.8), detectors={"marginal": {"enabled": False}, "psi": {"threshold": 0.25}})
    assert (alert.kind, alert.detector, alert.threshold) == ("drift", "psi", 0.25)
    assert (alert.value or 0) > 0.25
    assert "psi = " in alert.summary
    assert "is above 0.25" in alert.summary


def test_what_a_distance_decided_is_drift_even_where_a_null_is_the_most_striking_thing_about_it() -> None:
    rows = changed(1, 200, y=None)
    plan = plan_from({"detectors": {**ALONE, "psi": {"threshold": 0.015}}})
    outcome = by_the_minute(watching(plan, plain()), rows)
    assert outcome.final["m", "1", START_MS].signals["y"].cause == "missing"
    assert {(alert.kind, alert.detector) for alert in outcome.judged.alerts} == {("drift", "psi")}
    assert "y" in {alert.signal for alert in outcome.judged.alerts}


def test_a_rate_of_outliers_is_one_alert_of_the_whole_window() -> None:
    rows = changed(1, 4, x=2.2, y=-2.2)
    plan = plan_from({"outlier_share": 0.05, "detectors": {"marginal": {"enabled": False}}})
    [alert] = [
        each for each in by_the_minute(watching(plan, plain()), rows).judged.alerts if each.kind != "change_point"
    ]
    assert (alert.kind, alert.signal, alert.detector, alert.state) == ("outlier", "", "outlier_rate", "firing")
    assert "of its records are outliers as a whole, against" in alert.summary


def test_a_resolved_alert_says_how_long_it_has_been_quiet_and_keeps_its_severity() -> None:
    drifting, quiet = [sample(400, seed, shift=0.8) for seed in (1, 2)], [sample(400, seed) for seed in (3, 4, 5)]
    *_, alert = alerts(*drifting, *quiet)
    assert (alert.state, alert.severity, alert.value, alert.evidence) == ("resolved", "critical", None, [])
    assert alert.summary == "m 1: x looked like the baseline for 3 windows in a row."


def test_a_page_says_that_it_is_not_the_first_time() -> None:
    first, second = alerts(sample(400, 1, shift=0.8), sample(400, 2, shift=0.8))
    assert (first.severity, second.severity) == ("warning", "critical")
    assert second.summary.endswith("again and again.")


def test_every_summary_is_one_sentence_that_names_its_model() -> None:
    odd = changed(1, 2, x=9.0, y=-9.0, colour="mauve")
    plan = plan_from({"detectors": {"half_space_trees": {"threshold": 0.01}}})
    found = by_the_minute(watching(plan, plain()), *[sample(400, seed) for seed in range(5)], odd)
    everything = [*found.judged.alerts, *found.events]
    assert {alert.kind for alert in everything} == {"drift", "outlier", "data_quality", "change_point"}
    for alert in everything:
        assert alert.summary.startswith("m 1: ")
        assert alert.summary.endswith(".")
        assert "\n" not in alert.summary


def test_every_cell_has_a_label_of_its_own() -> None:
    layout = Layout.of(plain(), Plan())
    for name in layout.signals:
        labels = cell_labels(layout, name)
        assert len(set(labels)) == len(labels) == layout.cells(layout.zero(), name).size
    assert cell_labels(layout, "colour") == ["blue", "green", "red", "other levels", "unseen", "missing"]


def as_text(rows: Sequence[Prediction], every: int) -> list[Prediction]:
    return [
        prediction({**row.features, "x": str(row.features["x"])}, row.prediction) if place % every == 0 else row
        for place, row in enumerate(rows)
    ]


def test_numbers_that_become_text_keep_their_bins_and_are_a_matter_of_data_quality() -> None:
    [alert] = alerts(as_text(sample(400, 2), 8))
    assert (alert.kind, alert.signal, alert.detector) == ("data_quality", "x", "type")
    assert "x changed its share of values of the wrong type" in alert.summary
    assert alerts(as_text(sample(400, 2), 8), detectors={"type": {"enabled": False}}) == []


def test_numbers_that_always_were_text_are_no_finding_and_their_absence_is_one() -> None:
    text = msgspec.structs.replace(plain().signals["x"], text=5000 // 8)
    baseline = msgspec.structs.replace(plain(), signals={**plain().signals, "x": text}).sealed()
    watch = watching(plan_from({"detectors": ALONE}), baseline)
    assert by_the_minute(watch, as_text(sample(400, 2), 8)).judged.alerts == []
    [alert] = by_the_minute(watch, sample(400, 2)).judged.alerts
    assert (alert.kind, alert.detector) == ("data_quality", "type")
