"""Bounds of single values: believable, and hardly ever broken by drift-free values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from driftline.detectors.statistics.bounds import bounds_of

if TYPE_CHECKING:
    from typing import Any

KINDS: dict[str, Any] = {
    "normal": stats.norm(),
    "far from 0": stats.norm(40, 12),
    "lognormal": stats.lognorm(1),
    "t3": stats.t(3),
    "t5": stats.t(5),
    "exponential": stats.expon(),
    "gamma": stats.gamma(2),
    "cauchy": stats.cauchy(),
    "poisson": stats.poisson(1.5),
    "rare counts": stats.poisson(0.3),
    "many counts": stats.poisson(20),
    "uniform": stats.uniform(),
    "beta": stats.beta(2, 5),
}
PER_MILLION = 1.0


def rate_beyond(kind: str, rows: int, runs: int) -> float:
    """Chance of a value beyond the bounds at which one is told, by the true distribution, over many baselines."""
    true, rng = KINDS[kind], np.random.default_rng(rows)
    total = 0.0
    for _ in range(runs):
        found = bounds_of(np.sort(true.rvs(rows, random_state=rng).astype(np.float64)))
        total += 0.0 if found.most is None else float(true.sf(found.most))
        total += 0.0 if found.least is None else float(true.cdf(math.nextafter(found.least, -math.inf)))
    return total / runs * 1e6


@pytest.mark.parametrize("rows", [200, 500, 1_000, 10_000])
@pytest.mark.parametrize("kind", KINDS)
def test_a_drift_free_value_is_told_less_than_once_in_a_million(kind: str, rows: int) -> None:
    assert rate_beyond(kind, rows, 100 if rows > 1_000 else 400) <= PER_MILLION


@pytest.mark.parametrize("kind", ["t3", "exponential", "cauchy", "lognormal"])
def test_twice_the_tail_would_be_broken_far_more_often(kind: str) -> None:
    true, rng = KINDS[kind], np.random.default_rng(0)
    values = true.rvs((100, 200), random_state=rng)
    middle = np.median(values, axis=1)
    assert true.sf(middle + 2 * (values.max(axis=1) - middle)).mean() * 1e6 > 10 * PER_MILLION


@pytest.mark.parametrize("rows", [200, 1_000, 10_000])
def test_bounds_are_those_that_a_person_would_believe(rows: int) -> None:
    rng = np.random.default_rng(rows)
    children = bounds_of(np.sort(rng.poisson(0.7, rows).astype(np.float64)))
    assert (children.low, children.high % 1) == (0.0, 0.0)
    assert children.high <= 20
    shares = bounds_of(np.sort(rng.random(rows)))
    assert (shares.low, shares.high) == (0.0, 1.0)
    percentages = bounds_of(np.sort((100 * rng.beta(5, 1, rows)).round(1)))
    assert (percentages.low, percentages.high) == (0.0, 100.0)
    ages = bounds_of(np.sort(rng.normal(45, 12, rows).clip(18, 95).round()))
    assert 0 <= ages.low < 18
    assert 95 <= ages.high <= 150
    debts = bounds_of(np.sort(-rng.exponential(1000, rows)))
    assert debts.high == 0.0
    flags = bounds_of(np.sort((rng.random(rows) < 0.3).astype(np.float64)))
    assert flags == (None, 0.0, 1.0, None)


def test_an_age_of_200_is_told_and_one_of_a_hundred_is_not() -> None:
    ages = bounds_of(np.sort(np.random.default_rng(1).normal(45, 12, 10_000).clip(18, 95).round()))
    assert ages.most is not None
    assert 100 < ages.most < 200


def test_a_constant_tells_nothing_of_what_else_there_may_be() -> None:
    assert bounds_of(np.full(10_000, 7.0)) == (None, 7.0, 7.0, None)


@given(
    hnp.arrays(np.float64, st.integers(1, 400), elements=st.floats(-1e150, 1e150) | st.sampled_from([0.0, 1.0, 7.0]))
)
def test_bounds_are_finite_ascend_and_hold_every_value(values: Any) -> None:
    finite = np.sort(values)
    found = bounds_of(finite)
    assert math.isfinite(found.low + found.high) or found.high - found.low > 1e300
    assert found.low <= finite[0] <= finite[-1] <= found.high
    if found.least is not None:
        assert found.least <= finite[0]
    if found.most is not None:
        assert found.most >= finite[-1]
