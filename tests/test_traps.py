"""The traps that others fell into, one test each; where it is cheap, the naive way is shown to fall in."""

from __future__ import annotations

import math
import random
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from river.anomaly import HalfSpaceTrees
from river.drift import ADWIN
from scipy.stats import ks_2samp

from driftline.detectors.baselines.fit import fit
from driftline.detectors.plan import Plan, plan_from
from driftline.detectors.snapshots import profile_snapshot
from driftline.detectors.statistics.distances import psi
from driftline.detectors.windows.profiling import PartitionState
from tests.logs import START_MS, Profile, batch_of, by_the_minute, plain, prediction, sample, watching

if TYPE_CHECKING:
    from driftline.detectors.arrays import F64, I64
    from driftline.detectors.documents.predictions import Prediction
    from driftline.detectors.verdicts.decide import Verdict

WATCH = watching(Plan(), plain())
KEY = ("m", "1")


def odd(row: Prediction, **features: object) -> Prediction:
    return prediction({**row.features, **features}, row.prediction)


def one_window(rows: list[Prediction]) -> Verdict:
    return by_the_minute(WATCH, rows).final["m", "1", START_MS]


# One NaN makes river's ADWIN blind for ever.


def test_one_value_that_is_no_number_does_not_blind_adwin() -> None:
    rows = [*sample(2000, 1), odd(sample(1, 2)[0], x="NaN"), *sample(2000, 3, shift=1.0)]
    found = Profile(PartitionState(0, 1))
    found.step(batch_of(rows, START_MS), WATCH)
    assert "x" in {change.signal for change in found.state.cells[KEY].windows[START_MS].changes}


def test_one_nan_does_blind_adwin_where_it_is_fed() -> None:
    adwin = ADWIN()
    values = [float(row.features["x"] or 0) for row in [*sample(2000, 1), *sample(2000, 3, shift=1.0)]]
    found = []
    for value in [*values[:2000], math.nan, *values[2000:]]:
        adwin.update(value)
        found.append(adwin.drift_detected)
    assert not any(found)


# River's half-space trees score 0 for the first window, and for everything when features are not scaled to [0, 1].


@cache
def wide() -> list[Prediction]:
    """Two features far from [0, 1], and one record that is far from all others at the end."""
    rng = np.random.default_rng(1)
    rows = rng.normal(1000, 50, size=(1000, 2))
    return [prediction({"a": float(a), "b": float(b)}) for a, b in [*rows, (1300.0, 700.0)]]


def test_an_outlier_is_found_among_the_very_first_records_and_in_any_unit() -> None:
    columns = {name: [float(row.features[name] or 0) for row in wide()[:-1]] for name in ("a", "b")}
    plan = plan_from({"detectors": {"half_space_trees": {"threshold": 0.002}, "range": {"enabled": False}}})
    found = Profile(PartitionState(0, 1))
    found.step(batch_of([*wide()[:5], wide()[-1]], START_MS), watching(plan, fit("m", "1", columns)))
    assert [(event.kind, event.origin.offset) for event in found.events if event.origin] == [("outlier", 5)]


def test_river_scores_0_at_first_and_does_not_tell_unscaled_rows_apart() -> None:
    trees = HalfSpaceTrees(seed=1)
    scores = []
    for row in wide():
        features = {name: float(row.features[name] or 0) for name in ("a", "b")}
        scores.append(trees.score_one(features))
        trees.learn_one(features)
    assert set(scores[:250]) == {0}
    assert scores[-1] == pytest.approx(float(np.median(scores[500:])))


# A lone extreme value in one feature need not score high: a per-feature bound stands beside it.


def test_a_lone_extreme_value_is_found_by_its_bound_where_its_score_is_nothing_special() -> None:
    rng = np.random.default_rng(2)
    columns = {"age": rng.normal(45, 12, 5000).clip(18, 90).tolist()}
    columns |= {f"x{place}": rng.normal(size=5000).tolist() for place in range(20)}
    baseline = fit("m", "1", columns)
    rows = [prediction({name: values[row] for name, values in columns.items()}) for row in range(300)]
    rows.append(odd(rows[0], age=200.0))
    found = Profile(PartitionState(0, 1))
    found.step(batch_of(rows, START_MS), watching(Plan(), baseline))
    [event] = found.events
    assert (event.detector, event.value) == ("range", 200.0)


# Values outside the training range must count; 60 % new nulls are drift.


def test_values_beyond_the_training_range_are_drift() -> None:
    beyond = [odd(row, x=50.0 + place) if place % 10 == 0 else row for place, row in enumerate(sample(500, 3))]
    verdict = one_window(beyond)
    assert verdict.signals["x"].drift
    assert sum(verdict.signals["x"].counts) == 500


def test_a_histogram_with_closed_ends_does_not_see_them() -> None:
    x = np.array([float(row.features["x"] or 0) for row in sample(5000, 0)])
    edges = np.linspace(x.min(), x.max(), 21)
    usual = np.array([float(row.features["x"] or 0) for row in sample(500, 3)])
    shifted = np.where(np.arange(500) % 10 == 0, 50.0, usual)
    counts = [np.histogram(each, edges)[0] for each in (x, shifted)]
    assert psi(*naive(*counts)) < 0.1


def naive(reference: I64, current: I64) -> tuple[I64, I64, F64]:
    return reference[None], current[None], np.zeros((1, reference.size))


def test_three_fifths_of_new_nulls_are_drift() -> None:
    rows = [odd(row, x=None) if place % 5 < 3 else row for place, row in enumerate(sample(500, 3))]
    verdict = one_window(rows)
    assert (verdict.signals["x"].drift, verdict.signals["x"].cause) == (True, "missing")


def test_a_test_on_the_values_that_are_left_does_not_see_them() -> None:
    left = [row.features["x"] for place, row in enumerate(sample(500, 3)) if place % 5 >= 3]
    before = [row.features["x"] for row in sample(5000, 0)]
    assert ks_2samp(before, left).pvalue > 0.05


# One value of 1e6 hides a shift where bins move with the window.


def test_one_huge_value_does_not_hide_a_shift() -> None:
    rows = [odd(sample(1, 2)[0], x=1e6), *sample(500, 3, shift=1.0)]
    assert one_window(rows).signals["x"].drift


def test_bins_pooled_with_the_window_do_hide_it() -> None:
    before = [float(row.features["x"] or 0) for row in sample(5000, 0)]
    now = [1e6, *[float(row.features["x"] or 0) for row in sample(500, 3, shift=1.0)]]
    edges = np.histogram_bin_edges([*before, *now], 20)
    counts = [np.histogram(each, edges)[0] for each in (before, now)]
    assert psi(*naive(*counts)) < 0.1


# PSI above 0.2 on 100 records fires without drift.


def test_small_windows_without_drift_do_not_alarm_and_tiny_ones_are_not_called_stable() -> None:
    small = by_the_minute(WATCH, *[sample(100, seed) for seed in range(40)]).final.values()
    assert sum(verdict.drift is not False for verdict in small) <= 1
    psis = [signal.scores["psi"] or 0 for verdict in small for signal in verdict.signals.values()]
    assert max(psis) > 0.2
    assert sum(any((signal.scores["psi"] or 0) > 0.2 for signal in each.signals.values()) for each in small) > 20
    tiny = by_the_minute(WATCH, *[sample(99, seed) for seed in range(3)]).final.values()
    assert {(verdict.status, verdict.drift) for verdict in tiny} == {("insufficient", None)}


# A moving average with 3 standard deviations absorbs a lasting drift into its history.


def test_a_lasting_drift_is_reported_for_as_long_as_it_lasts() -> None:
    windows = [sample(300, seed, shift=0.8 if seed >= 10 else 0) for seed in range(30)]
    verdicts = by_the_minute(WATCH, *windows).final
    drifting = [verdicts[key].drift for key in sorted(verdicts)]
    assert drifting == [False] * 10 + [True] * 20


def test_a_moving_average_forgets_it() -> None:
    windows = [sample(300, seed, shift=0.8 if seed >= 10 else 0) for seed in range(30)]
    means = [float(np.mean([row.features["x"] for row in rows])) for rows in windows]
    alarms = [
        abs(means[place] - np.mean(means[place - 8 : place])) > 3 * np.std(means[place - 8 : place])
        for place in range(8, 30)
    ]
    assert alarms[2]
    assert sum(alarms[2:]) < 5  # of 20 windows that drift


# 100 features, one test each per window at 5 %, are five false alarms a window.


def test_a_hundred_features_do_not_multiply_false_alarms() -> None:
    rng = np.random.default_rng(4)
    m, n, windows = 5000, 200, 20
    before, now = rng.normal(size=(100, m)), rng.normal(size=(100, n * windows))
    baseline = fit("m", "1", {f"x{place}": before[place].tolist() for place in range(100)})
    off = {name: {"enabled": False} for name in ("adwin", "adwin_scale", "half_space_trees")}
    rows = [prediction({f"x{place}": float(now[place, row]) for place in range(100)}) for row in range(n * windows)]
    groups = [rows[start : start + n] for start in range(0, n * windows, n)]
    verdicts = by_the_minute(watching(plan_from({"detectors": off}), baseline), *groups).final.values()
    assert len(verdicts) == windows
    assert sum(verdict.drift is not False for verdict in verdicts) <= 1
    at_five_percent = [sum((s.p_value or 1) < 0.05 for s in verdict.signals.values()) for verdict in verdicts]
    assert 3 < np.mean(at_five_percent) < 7


# Unknown models and unbounded values must not grow memory.


def test_neither_unknown_models_nor_unseen_values_grow_the_state() -> None:
    found = Profile(PartitionState(0, 1))
    found.step(batch_of(sample(100, 1), START_MS), WATCH)
    usual = sum(map(len, dict(profile_snapshot.dump(found.state, WATCH)).values()))
    rows = [
        prediction({"x": 1e9 + row, "colour": f"#{row:06x}", f"extra{row}": row}, 0.5, f"{'m' if row % 2 else 'ghost'}")
        for row in range(2000)
    ]
    found.step(batch_of(rows, START_MS + 1000, 100), WATCH)
    assert found.tally["accepted"] == 1100
    assert list(found.state.cells) == [KEY]
    grown = sum(map(len, dict(profile_snapshot.dump(found.state, WATCH)).values()))
    assert grown < usual + 5000  # ADWIN's buckets grow with the logarithm of what they have seen
    assert len(found.events) <= 6


def test_a_flood_of_broken_records_is_a_handful_of_alerts() -> None:
    rows = [odd(row, x="?", y=None, colour="?") for row in sample(1000, 1)]
    random.Random(1).shuffle(rows)  # noqa: S311 - the order is no secret
    outcome = by_the_minute(WATCH, rows)
    assert len(outcome.events) <= 6
    verdict = outcome.final["m", "1", START_MS]
    assert verdict.violations == {"x": {"type": 1000}, "y": {"null": 1000}, "colour": {"category": 1000}}
