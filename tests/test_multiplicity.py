import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from driftline.detectors.statistics.multiplicity import benjamini_hochberg, bonferroni, sidak

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30).map(np.array)
LEVELS = st.floats(0.001, 0.5)


@given(p=st.floats(0, 1), c=st.integers(1, 30))
def test_sidak_is_one_minus_the_chance_that_all_stay_above(p: float, c: int) -> None:
    assert sidak(p, c) == pytest.approx(1 - (1 - p) ** c, abs=1e-12)


def test_sidak_keeps_the_digits_of_tiny_p_values() -> None:
    assert sidak(1e-30, 5) == pytest.approx(5e-30, rel=1e-12)


def test_sidak_of_no_tests_is_no_evidence() -> None:
    assert sidak(1.0, 0) == 1.0


@given(p=P_VALUES, q=LEVELS)
def test_benjamini_hochberg_agrees_with_adjusted_p_values_of_scipy(p: np.ndarray, q: float) -> None:
    adjusted = false_discovery_control(p)
    clear = np.abs(adjusted - q) > 1e-12  # on the line the two round differently
    assert np.array_equal(benjamini_hochberg(p, q)[clear], (adjusted <= q)[clear])


@given(p=P_VALUES, level=LEVELS)
def test_bonferroni_rejects_a_subset_of_benjamini_hochberg(p: np.ndarray, level: float) -> None:
    assert not ((bonferroni(p) <= level) & ~benjamini_hochberg(p, level)).any()


@given(p=P_VALUES, q=LEVELS, seed=st.integers(0, 2**32 - 1))
def test_neither_depends_on_the_order_of_features(p: np.ndarray, q: float, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(p.size)
    assert np.array_equal(bonferroni(p[order]), bonferroni(p)[order])
    assert np.array_equal(benjamini_hochberg(p[order], q), benjamini_hochberg(p, q)[order])


def test_no_p_values_reject_nothing() -> None:
    nothing = np.zeros(0)
    assert bonferroni(nothing).size == benjamini_hochberg(nothing, 0.05).size == 0


def test_the_share_of_false_ones_among_many_true_ones_stays_below_q() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(500):
        p = np.concatenate((rng.random(80), rng.random(20) * 1e-4))
        listed = benjamini_hochberg(p, 0.05)
        shares.append(listed[:80].sum() / max(listed.sum(), 1))
        assert listed[80:].all()
    # The expectation is q times the share of true nulls, .04; the mean of 500 has a standard error of about .002.
    assert np.mean(shares) == pytest.approx(0.04, abs=0.008)
