"""Normal scores: monotone, robust to ties, and what keeps ADWIN quiet on heavy tails."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from driftline.detectors.arrays import F64
from driftline.detectors.baselines.numeric import numeric_signal
from driftline.detectors.statistics.normal_scores import LEAST_SHARE, TAIL_SHARES, knots
from tests.adwins import Adwin

HIGHEST = -ndtri(LEAST_SHARE)
NUMBERS = st.floats(-1e15, 1e15).map(lambda value: round(value, 6))


def knots_of(baseline: F64) -> tuple[F64, F64]:
    """Through a profile, as in production."""
    signal = numeric_signal(baseline)
    return knots(np.array(signal.edges), np.array(signal.counts), np.array(signal.tails))


@settings(max_examples=200, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=80) | st.lists(st.sampled_from([0.0, 1.0, 7.0]), min_size=1, max_size=80))
@example([0.0])
@example([0.0] * 99 + [1.0])
@example([-1e15, 1e15])
def test_knots_rise_and_hold_every_edge(baseline: list[float]) -> None:
    values, scores = knots_of(np.array(baseline))

    assert (np.diff(values) > 0).all()
    assert (np.diff(scores) >= 0).all()
    assert np.isfinite(scores).all()
    assert np.abs(scores).max() <= HIGHEST + 1e-9
    assert set(numeric_signal(np.array(baseline)).edges) <= set(values.tolist())


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_scores_are_those_of_the_ranks_whatever_the_shape_and_unit(unit: float) -> None:
    rng = np.random.default_rng(0)
    baseline, values = rng.lognormal(0, 1.5, (2, 20_000)) * unit
    ranks = np.sort(baseline).searchsorted(values)
    expected = ndtri((ranks + 0.5) / (baseline.size + 1))
    found = np.interp(values, *knots_of(baseline))

    inner = np.abs(expected) < ndtri(0.999)
    assert np.abs(found - expected)[inner].max() < 0.12
    assert found.mean() == pytest.approx(0, abs=0.03)
    assert found.std() == pytest.approx(1, abs=0.03)


def test_the_score_of_an_edge_is_the_share_below_it() -> None:
    edges, counts = np.array([1.0, 2.0, 5.0]), np.array([10, 20, 30, 40])
    values, scores = knots(edges, counts, np.linspace(0.5, 0.9, 5).tolist() + np.linspace(6, 9, 5).tolist())
    at_edges = scores[values.searchsorted(edges)]

    assert at_edges.tolist() == pytest.approx(ndtri([0.1, 0.3, 0.6]).tolist())


def test_what_ties_stands_for_the_middle_of_its_ranks() -> None:
    """Half of the rows are 0, and all quantiles up to .025 tie with the smallest value."""
    tails = np.array([0.0] * 5 + [7.0, 8.0, 9.0, 9.5, 10.0])
    values, scores = knots(np.array([5.0]), np.array([75, 25]), tails)

    assert scores[values == 0.0].tolist() == pytest.approx([ndtri(0.0125)])


def test_beyond_the_baseline_the_outermost_score_holds() -> None:
    at = knots_of(np.random.default_rng(1).normal(size=5000))

    assert np.interp([-1e15, 1e15], *at).tolist() == pytest.approx([-HIGHEST, HIGHEST])


def test_adwin_cries_wolf_on_lognormal_values_and_hardly_ever_on_their_normal_scores() -> None:
    raw = location = scale = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        values = rng.lognormal(0, 1.5, 100_000)  # no drift
        scores = np.interp(values, *knots_of(rng.lognormal(0, 1.5, 10_000)))
        raw += len(Adwin().feed(values))
        location += len(Adwin().feed(scores))
        scale += len(Adwin().feed(np.minimum(scores * scores, 9.0)))

    assert raw > 80  # per million rows
    assert location <= 1
    assert scale <= 3


def test_normal_scores_still_show_a_shift_and_a_change_of_spread() -> None:
    rng = np.random.default_rng(2)
    at = knots_of(rng.lognormal(0, 1.5, 10_000))
    before = np.interp(rng.lognormal(0, 1.5, 5000), *at)
    shifted = np.interp(rng.lognormal(0.75, 1.5, 3000), *at)  # half a standard deviation of the logarithm
    wider = np.interp(rng.lognormal(0, 2.25, 3000), *at)

    assert 5000 <= Adwin().feed(np.concatenate([before, shifted]))[0].row < 5500
    assert 5000 <= Adwin().feed(np.minimum(np.concatenate([before, wider]) ** 2, 9.0))[0].row < 5800


def test_tail_shares_are_symmetric_and_reach_the_extremes() -> None:
    shares = np.array(TAIL_SHARES)

    assert shares[[0, -1]].tolist() == [0.0, 1.0]
    assert (shares + shares[::-1]).tolist() == pytest.approx([1.0] * 10)
