"""Outliers in context: ranks that hold with ties and few rows, tails that can be reached, baselines with anomalies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from driftline.detectors.baselines.fit import fit
from driftline.detectors.baselines.training import NumericColumn
from driftline.detectors.layout.columns import Columns
from driftline.detectors.layout.vector_layout import Layout
from driftline.detectors.plan import Plan
from driftline.detectors.statistics.rates import two_proportion_p_value
from driftline.detectors.windows.online_detectors import Online, outlier_scores

if TYPE_CHECKING:
    from collections.abc import Callable

    from driftline.detectors.arrays import F64, Mask

Rng = np.random.Generator


def _mixed(rng: Rng, n: int) -> F64:
    columns: list[Any] = [
        rng.normal(size=n), rng.lognormal(size=n), rng.poisson(1.5, n), rng.random(n) < 0.02, rng.integers(0, 10, n),
        np.where(rng.random(n) < 0.8, 0, rng.exponential(size=n)), rng.standard_t(3, n),
    ]  # fmt: skip
    return np.column_stack(columns).astype(np.float64)


KINDS: dict[str, Callable[[Rng, int], F64]] = {
    "a rating": lambda rng, n: rng.integers(0, 10, (n, 1)).astype(np.float64),
    "three flags": lambda rng, n: (rng.random((n, 3)) < [0.5, 0.1, 0.02]).astype(np.float64),
    "a number and a flag": lambda rng, n: np.column_stack([rng.normal(size=n), rng.random(n) < 0.05]),
    "two normals": lambda rng, n: rng.normal(size=(n, 2)),
    "ten normals": lambda rng, n: rng.normal(size=(n, 10)),
    "heavy tails": lambda rng, n: rng.standard_cauchy((n, 4)),
    "mixed": _mixed,
}


class Found(NamedTuple):
    """What became of the rows of a log."""

    layout: Layout
    by_trees: Mask
    by_joint: Mask
    flagged: Mask


def found(training: F64, rows: F64) -> Found:
    """Score rows of shape (n, features) after a baseline of such rows."""
    names = [f"x{place}" for place in range(training.shape[1])]
    columns = {name: NumericColumn(training[:, place].copy()) for place, name in enumerate(names)}
    layout = Layout.of(fit("m", "1", columns), Plan())
    values = np.ascontiguousarray(rows.T)
    finite = np.isfinite(values)
    seen = Columns(values, finite, ~finite, np.zeros(values.shape, np.int64), layout.segments.scores(values))
    [scores] = outlier_scores([(Online.fresh(layout), seen)])
    assert scores is not None
    assert layout.outlier_ranks is not None
    joint = np.zeros(len(rows), np.bool_)
    if layout.joint is not None:
        told = layout.joint.found(layout.joint_rows, values, seen.scores, finite)
        joint[list(told)] = True
        assert all(0 < chance <= 1e-6 for chance in told.values())
    return Found(layout, scores >= layout.alerting_score, joint, layout.outlier_ranks.are_outliers(scores))


@pytest.mark.parametrize("rows", [600, 1_000, 10_000])
@pytest.mark.parametrize("kind", KINDS)
def test_without_drift_no_record_is_told_and_hardly_a_window_alarms(kind: str, rows: int) -> None:
    """Thirty windows of a thousand records each after one baseline, three baselines."""
    alarms, told = 0, 0
    for seed in range(3):
        rng = np.random.default_rng((seed, rows))
        each = found(KINDS[kind](rng, rows), KINDS[kind](rng, 30_000))
        profile, ranks = each.layout.baseline.outliers, each.layout.outlier_ranks
        assert profile is not None
        assert ranks is not None
        told += int((each.by_trees | each.by_joint).sum())
        for hits in each.flagged.reshape(30, 1000).sum(axis=1).tolist():
            alarms += two_proportion_p_value(hits, 1000, ranks.flagged, rows, profile.dispersion) <= 0.00175
    assert told <= 1  # of 90 000
    assert alarms <= 3  # of 90


def test_tied_scores_and_few_rows_leave_single_records_untold() -> None:
    rng = np.random.default_rng(0)
    for kind, rows in (("a rating", 600), ("three flags", 10_000), ("ten normals", 900)):
        profile = found(KINDS[kind](rng, rows), KINDS[kind](rng, 300)).layout.baseline.outliers
        assert profile is not None
        assert profile.score_tail is None
        assert profile.joint_tail is None


@pytest.mark.parametrize("features", [2, 5])
@pytest.mark.parametrize("far", [5.0, 7.0, 50.0])
def test_a_record_far_out_in_two_features_is_told(features: int, far: float) -> None:
    rng = np.random.default_rng(features)
    rows = rng.normal(size=(5_000, features))
    rows[::100, :2] = rng.choice([-far, far], (50, 2))
    each = found(rng.normal(size=(10_000, features)), rows)
    is_far = np.arange(5_000) % 100 == 0
    assert (each.by_joint | each.by_trees)[is_far].all()
    assert not (each.by_joint | each.by_trees)[~is_far].any()


def test_no_tree_score_is_so_rare_in_two_dimensions_and_none_is_asked_for() -> None:
    """The control: the tail would reach one in a million beyond the highest score that there is."""
    rng = np.random.default_rng(3)
    layout = found(rng.normal(size=(10_000, 2)), rng.normal(size=(300, 2))).layout
    profile = layout.baseline.outliers
    assert profile is not None
    assert profile.score_tail is not None
    assert layout.alerting_score == np.inf


@pytest.mark.parametrize("share", [0.01, 0.03, 0.05])
@pytest.mark.parametrize("features", [5, 9])
def test_anomalies_in_the_baseline_do_not_make_others_normal(features: int, share: float) -> None:
    rng = np.random.default_rng(int(share * 100))

    def rows(n: int) -> tuple[F64, Mask]:
        values, is_odd = rng.normal(size=(n, features)), rng.random(n) < share
        values[is_odd] = rng.normal(6.0, 0.5, (int(is_odd.sum()), features))
        return values, is_odd

    training, was_odd = rows(10_000)
    live, is_odd = rows(20_000)
    each = found(training, live)
    profile = each.layout.baseline.outliers
    assert profile is not None
    assert abs(profile.trimmed - was_odd.sum()) <= 10
    assert each.by_trees[is_odd].mean() > 0.95
    assert each.by_trees[~is_odd].sum() <= 1


def test_a_rare_category_is_no_anomaly() -> None:
    """A flag that one row in twenty has sets these rows apart as surely as anomalies are."""
    rng = np.random.default_rng(4)

    def rows(n: int) -> F64:
        return np.column_stack([rng.normal(size=(n, 5)), rng.random(n) < 0.05])

    each = found(rows(10_000), rows(20_000))
    assert each.layout.baseline.outliers is not None
    assert each.layout.baseline.outliers.trimmed == 0
    assert not each.by_trees.any()
