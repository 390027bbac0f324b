import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, ks_2samp, norm, wasserstein_distance

from driftline.detectors.arrays import F64, I64
from driftline.detectors.statistics.distances import DISTANCES, distances

EVERY = pytest.mark.parametrize("name", DISTANCES)


def distance(name: str, reference: I64, current: I64) -> float:
    [found] = distances(name, reference[None], current[None], positions(reference.size)[None]).tolist()
    return float(found)


def positions(k: int) -> F64:
    return np.linspace(-2, 2, k) ** 3


@st.composite
def counts(draw: st.DrawFn, sides: int = 2, largest: int = 10**7) -> I64:
    k = draw(st.integers(1, 12))
    cell = st.one_of(st.just(0), st.integers(0, 10), st.integers(0, largest))
    return np.array(draw(st.lists(st.lists(cell, min_size=k, max_size=k), min_size=sides, max_size=sides)))


# Contract: every entry of the dict.


@EVERY
@given(shape=counts(sides=1), reference_times=st.integers(1, 1000), current_times=st.integers(1, 1000))
def test_equal_shapes_are_at_distance_zero(name: str, shape: I64, reference_times: int, current_times: int) -> None:
    assert distance(name, shape[0] * reference_times, shape[0] * current_times) == pytest.approx(0, abs=1e-7)


@EVERY
@given(pair=counts())
def test_it_is_finite_and_never_negative_with_empty_cells_too(name: str, pair: I64) -> None:
    value = distance(name, *pair)
    assert isinstance(value, float)
    assert np.isfinite(value)
    assert value >= 0


@EVERY
def test_different_shapes_are_apart(name: str) -> None:
    near = distance(name, np.array([50, 50, 50]), np.array([50, 45, 55]))
    far = distance(name, np.array([50, 50, 50]), np.array([10, 40, 100]))
    assert 0 < near < far


@pytest.mark.parametrize("name", [name for name, entry in DISTANCES.items() if not entry.ordered])
@given(pair=counts(), seed=st.integers(0, 2**32 - 1))
def test_one_for_categories_does_not_see_the_order_of_cells(name: str, pair: I64, seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(pair, axis=1)
    assert distance(name, *shuffled) == pytest.approx(distance(name, *pair), rel=1e-9, abs=1e-7)


@pytest.mark.parametrize("name", [name for name, entry in DISTANCES.items() if entry.ordered])
def test_one_for_ordered_cells_sees_how_far_mass_moves(name: str) -> None:
    near = distance(name, np.array([1, 0, 1, 0]), np.array([0, 1, 0, 1]))
    far = distance(name, np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1]))
    assert near < far


@EVERY
@given(pair=counts())
def test_it_is_the_same_from_either_side(name: str, pair: I64) -> None:
    assert distance(name, *pair) == pytest.approx(distance(name, *pair[::-1]), rel=1e-9, abs=1e-12)


@EVERY
@given(pair=counts(), times=st.integers(2, 50))
def test_more_records_of_the_same_shapes_change_only_what_counts_records(name: str, pair: I64, times: int) -> None:
    once, scaled = distance(name, *pair), distance(name, *(pair * times))
    if name == "chi2":
        assert scaled == pytest.approx(once * times, rel=1e-9, abs=1e-9)
    elif name == "psi":  # its half record weighs less, so that empty cells count more
        assert scaled >= once * (1 - 1e-9) - 1e-12
    else:
        assert scaled == pytest.approx(once, rel=1e-9, abs=1e-12)


@EVERY
@pytest.mark.parametrize("empty", ["reference", "current", "both"])
def test_without_records_on_a_side_it_is_zero(name: str, empty: str) -> None:
    some, none = np.array([3, 4]), np.array([0, 0])
    reference, current = {"reference": (none, some), "current": (some, none), "both": (none, none)}[empty]
    assert distance(name, reference, current) == 0.0


@EVERY
def test_it_leaves_its_arguments_alone(name: str) -> None:
    pair = np.array([[1, 2, 3], [3, 2, 1]])
    pair.setflags(write=False)
    assert distance(name, *pair) > 0


@EVERY
@given(many=st.integers(2, 20).flatmap(lambda rows: counts(sides=2 * rows)))
def test_a_row_of_many_has_to_the_last_bit_what_it_has_alone(name: str, many: I64) -> None:
    reference, current = many.reshape(2, -1, many.shape[1])
    where = np.tile(positions(many.shape[1]), (len(reference), 1))
    alone = [distance(name, *pair) for pair in zip(reference, current, strict=True)]
    assert distances(name, reference, current, where).tolist() == alone


# One row a distance, derivable by hand. Positions are -1 and 1.


@pytest.mark.parametrize(
    ("name", "reference", "current", "value"),
    [
        ("psi", [2, 2], [4, 0], 0.4 * np.log(9)),  # (.5, .5) and, with half a record per cell, (.9, .1)
        ("js", [5, 0], [0, 3], 1.0),  # nothing in common: one bit
        ("ks", [3, 1], [1, 3], 0.5),  # 3/4 and 1/4 below the edge
        ("wasserstein", [4, 0], [1, 1], 1.0),  # half of the records travel 2
        ("chi2", [3, 1], [1, 3], 2.0),  # off by 1 from 2 in four cells
    ],
)
def test_it_has_the_value_one_derives_by_hand(
    name: str, reference: list[int], current: list[int], value: float
) -> None:
    measured = distances(name, np.array([reference]), np.array([current]), np.array([[-1.0, 1.0]]))
    assert measured == pytest.approx([value])


def test_every_distance_of_the_dict_has_its_row() -> None:
    [rows] = test_it_has_the_value_one_derives_by_hand.pytestmark  # type: ignore[attr-defined]
    assert {row[0] for row in rows.args[1]} == set(DISTANCES)


# Oracles.


@given(pair=counts())
def test_they_agree_with_scipy(pair: I64) -> None:
    reference, current = pair
    if reference.sum() == 0 or current.sum() == 0:
        return
    where = positions(reference.size)
    assert distance("js", *pair) == pytest.approx(jensenshannon(reference, current, base=2), abs=1e-7)
    assert distance("wasserstein", *pair) == pytest.approx(
        wasserstein_distance(where, where, reference, current), rel=1e-9, abs=1e-9
    )
    table = pair[:, pair.sum(axis=0) > 0]
    assert distance("chi2", *pair) == pytest.approx(
        chi2_contingency(table, correction=False).statistic, rel=1e-9, abs=1e-9
    )


@given(pair=counts(largest=1000).filter(lambda pair: pair.sum(axis=1).min() > 1))
def test_kolmogorov_smirnov_agrees_with_scipy_on_the_cells_of_all_records(pair: I64) -> None:
    samples = [np.repeat(np.arange(side.size), side) for side in pair]
    oracle = ks_2samp(*samples, method="asymp").statistic
    assert distance("ks", *pair) == pytest.approx(oracle, abs=1e-9)


def test_psi_of_half_a_standard_deviation_is_about_a_quarter() -> None:
    """The normal densities are d^2 = .25 apart, of which deciles keep .238; see it from samples, too."""
    edges = norm.ppf(np.arange(1, 10) / 10)
    p, q = (np.diff(norm.cdf(edges, mean), prepend=0, append=1) for mean in (0, 0.5))
    exact = float(((q - p) * np.log(q / p)).sum())
    assert exact == pytest.approx(0.238, abs=0.001)

    rng, measured = np.random.default_rng(0), []
    for _ in range(20):
        baseline, window = rng.normal(0, 1, 10_000), rng.normal(0.5, 1, 10_000)
        edges = np.quantile(baseline, np.arange(1, 10) / 10)
        reference, current = (
            np.bincount(np.searchsorted(edges, x), minlength=10).astype(np.int64) for x in (baseline, window)
        )
        measured.append(distance("psi", reference, current))
    assert np.mean(measured) == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("n", [200, 1000, 10_000])
def test_psi_without_drift_is_about_cells_less_one_by_records(n: int) -> None:
    rng, m, k = np.random.default_rng(0), 10_000, 10
    shares = np.full(k, 1 / k)
    samples = rng.multinomial(m, shares, 2000), rng.multinomial(n, shares, 2000)
    measured = distances("psi", *samples, np.zeros((2000, k)))
    assert np.mean(measured) == pytest.approx((k - 1) * (1 / n + 1 / m), rel=0.06)
