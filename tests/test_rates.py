import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betaincinv
from scipy.stats import betabinom, hypergeom, norm

from driftline.detectors.statistics.rates import two_proportion_p_value, two_sided_p_value


@st.composite
def tables(draw: st.DrawFn, largest: int = 3000) -> tuple[int, int, int, int]:
    n, m = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    return draw(st.integers(0, n)), n, draw(st.integers(0, m)), m


@given(table=tables())
def test_the_one_sided_p_value_is_the_hypergeometric_tail(table: tuple[int, int, int, int]) -> None:
    k, n, k0, m = table
    exact = hypergeom.sf(k - 1, n + m, k + k0, n)
    if exact > 1e-14:
        assert two_proportion_p_value(k, n, k0, m) == pytest.approx(exact, rel=1e-6)
    else:
        assert two_proportion_p_value(k, n, k0, m) <= 1e-13


@given(table=tables())
def test_the_two_sided_p_value_is_twice_the_smaller_mid_tail(table: tuple[int, int, int, int]) -> None:
    k, n, k0, m = table
    hits = hypergeom(n + m, k + k0, n)
    mid = hits.pmf(k) / 2
    exact = min(1.0, 2 * min(hits.cdf(k - 1) + mid, hits.sf(k) + mid))
    assert two_sided_p_value(k, n, k0, m) == pytest.approx(exact, rel=1e-6, abs=1e-13)


@given(table=tables())
def test_two_sided_is_the_same_from_either_side_and_for_misses_as_for_hits(table: tuple[int, int, int, int]) -> None:
    k, n, k0, m = table
    p = two_sided_p_value(k, n, k0, m)
    assert two_sided_p_value(k0, m, k, n) == pytest.approx(p, rel=1e-6, abs=1e-13)
    assert two_sided_p_value(n - k, n, m - k0, m) == pytest.approx(p, rel=1e-6, abs=1e-13)


@given(table=tables(), dispersion=st.floats(1, 50))
def test_more_hits_are_more_evidence_and_bursts_are_less(table: tuple[int, int, int, int], dispersion: float) -> None:
    k, n, k0, m = table
    p = two_proportion_p_value(k, n, k0, m, dispersion)
    assert 0 < p <= 1
    if k < n and k0 > 0:
        assert two_proportion_p_value(k + 1, n, k0 - 1, m, dispersion) <= p * (1 + 1e-9)


def _distribution(total: int, n: int, m: int, dispersion: float) -> np.ndarray:
    tails = [two_proportion_p_value(k, n, total - k, m, dispersion) for k in range(total + 1)]
    return -np.diff(np.append(tails, 0.0))


@pytest.mark.parametrize("dispersion", [1.0, 1.02, 1.5, 4.0, 30.0])
def test_dispersion_multiplies_the_variance_of_the_count(dispersion: float) -> None:
    total, n, m = 60, 1000, 5000
    shares, k = _distribution(total, n, m, dispersion), np.arange(total + 1)
    mean = shares @ k
    assert mean == pytest.approx(total * n / (n + m))
    assert shares @ (k - mean) ** 2 == pytest.approx(dispersion * hypergeom.var(n + m, total, n))


def test_with_bursts_it_is_the_beta_binomial() -> None:
    total, n, m, dispersion = 40, 10_000, 90_000, 3.0
    factor = dispersion * (n + m - total) / (n + m - 1)
    weight = (total - factor) / (factor - 1)
    oracle = betabinom(total, weight * 0.1, weight * 0.9)
    for k in (1, 4, 10, 25, 40):
        assert two_proportion_p_value(k, n, total - k, m, dispersion) == pytest.approx(oracle.sf(k - 1), rel=1e-9)


def test_many_hits_divide_z_by_the_root_of_dispersion() -> None:
    k, n, k0, m, dispersion = 10_300, 100_000, 100_000, 1_000_000, 4.0
    rate = (k + k0) / (n + m)
    z = (k / n - k0 / m) / np.sqrt(rate * (1 - rate) * (1 / n + 1 / m) * dispersion)
    assert two_proportion_p_value(k, n, k0, m, dispersion) == pytest.approx(norm.sf(z), rel=0.02)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (5, 0), (0, 5), (5, 5)])
def test_nothing_to_compare_is_no_evidence(n: int, m: int) -> None:
    for k, k0 in ((0, 0), (n, m)):
        assert two_proportion_p_value(k, n, k0, m) == 1.0
        assert two_sided_p_value(k, n, k0, m) == 1.0


def test_a_large_window_without_any_value_is_certain() -> None:
    assert two_proportion_p_value(1_000_000, 1_000_000, 10, 1_000_000) < 1e-15
    assert two_sided_p_value(1_000_000, 1_000_000, 10, 1_000_000) < 1e-15


def _upper_bound(hits: int, runs: int) -> float:
    return float(betaincinv(hits + 1, runs - hits, 0.999))


def _lower_bound(hits: int, runs: int) -> float:
    return float(betaincinv(hits, runs - hits + 1, 0.001)) if hits else 0.0


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.3])
@pytest.mark.parametrize("level", [0.05, 0.005])
def test_independent_hits_keep_the_level(rate: float, level: float) -> None:
    rng, n, m, runs = np.random.default_rng(1), 1000, 10_000, 4000
    k, k0 = rng.binomial(n, rate, runs).tolist(), rng.binomial(m, rate, runs).tolist()
    upper = sum(two_proportion_p_value(a, n, b, m) <= level for a, b in zip(k, k0, strict=True))
    both = sum(two_sided_p_value(a, n, b, m) <= level for a, b in zip(k, k0, strict=True))
    assert _lower_bound(upper, runs) <= level
    assert _lower_bound(both, runs) <= level
    if rate > 0.01:  # of a single expected hit no test can use up its level
        assert _upper_bound(both, runs) >= 0.7 * level


@pytest.mark.parametrize("dispersion", [2.0, 5.0])
def test_bursts_keep_the_level_only_if_they_are_told_of(dispersion: float) -> None:
    rng, n, m, runs, level = np.random.default_rng(2), 1000, 10_000, 4000, 0.005
    counts = [  # negative binomial: variance = dispersion * mean
        rng.negative_binomial(0.01 * rows / (dispersion - 1), 1 / dispersion, runs).tolist() for rows in (n, m)
    ]
    told = sum(two_proportion_p_value(a, n, b, m, dispersion) <= level for a, b in zip(*counts, strict=True))
    untold = sum(two_proportion_p_value(a, n, b, m) <= level for a, b in zip(*counts, strict=True))
    assert _lower_bound(told, runs) <= level
    assert _upper_bound(told, runs) >= 0.3 * level
    assert _lower_bound(untold, runs) > 2 * level
