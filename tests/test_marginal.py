from collections import Counter
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betaincinv
from scipy.stats import chi2, hypergeom, norm

from driftline.detectors.arrays import F64, I64
from driftline.detectors.baselines.categorical import MAX_LEVELS, categorical_signal
from driftline.detectors.baselines.fit import fit
from driftline.detectors.baselines.training import CategoricalColumn, column_of
from driftline.detectors.layout.columns import columns
from driftline.detectors.layout.level_cells import rarity, reference_cells
from driftline.detectors.layout.values import places_of
from driftline.detectors.layout.vector_layout import Layout
from driftline.detectors.plan import Plan
from driftline.detectors.statistics.distances import chi_square
from driftline.detectors.statistics.marginal import (
    Marginal,
    categorical_tests,
    minimum_detectable_effect,
    numeric_tests,
)
from driftline.detectors.statistics.rates import two_sided_p_value
from tests.logs import prediction

Test = Callable[[I64, I64], Marginal]


def numeric_test(reference: I64, current: I64) -> Marginal:
    return numeric_tests(reference[None], current[None])[0]


def all_kept(references: I64, currents: I64) -> list[Marginal]:
    """Categorical tests of tables that end in unseen and missing, of columns whose levels all have a cell."""
    levels = references[:, :-2]
    few = [(levels == times).sum(axis=1) for times in range(1, 9)]
    rare = np.stack((references[:, :-1].sum(axis=1), few[0] + references[:, -2], *few[1:]), axis=1)
    references, currents = (np.insert(each, -2, 0, axis=1) for each in (references, currents))
    return categorical_tests(references, currents, rare)


def categorical_test(reference: I64, current: I64) -> Marginal:
    return all_kept(reference[None], current[None])[0]


NUMERIC = {"shape", "location", "scale", "missing", "nonfinite"}
CATEGORICAL = {"shape", "missing", "unseen"}
BOTH = pytest.mark.parametrize("test", [numeric_test, categorical_test])

WINDOW_LEVEL = 0.00525  # of a window's alarm, over 20 features
FEATURE_LEVEL = WINDOW_LEVEL / 20


def zipf(k: int, exponent: float = 1.0) -> F64:
    weights = np.arange(1.0, k + 1) ** -exponent
    shares: F64 = weights / weights.sum()
    return shares


def cells(counts: list[int] | I64, *special: int) -> I64:
    return np.concatenate((counts, special)).astype(np.int64)


def stacked(tables: list[tuple[I64, I64]]) -> I64:
    """References and windows of tables with equally many cells, shape (2, tables, cells)."""
    return np.array(tables).swapaxes(0, 1)


def quantile_windows(rng: np.random.Generator, bins: int, n: int, m: int, runs: int) -> list[tuple[I64, I64]]:
    """Tables of runs baselines, each with edges at its own quantiles and one window of the same distribution.

    The baseline then holds m / bins records in each bin, and the true share of a bin is a gap between order
    statistics of m uniform values: a Dirichlet variate.
    """
    reference = cells(np.full(bins, m // bins), 0, 0)
    shares = rng.dirichlet(np.full(bins, m / bins), runs)
    return [(reference, cells(row, 0, 0)) for row in rng.multinomial(n, shares)]


def normal_windows(
    rng: np.random.Generator, n: int, m: int, runs: int, mean: float = 0.0, sd: float = 1.0
) -> list[tuple[I64, I64]]:
    tables = []
    for _ in range(runs):
        baseline = rng.normal(size=m)
        edges = np.quantile(baseline, np.arange(1, 20) / 20)
        window = rng.normal(mean, sd, n)
        reference, current = (np.bincount(np.searchsorted(edges, x), minlength=20) for x in (baseline, window))
        tables.append((cells(reference, 0, 0), cells(current, 0, 0)))
    return tables


def category_windows(rng: np.random.Generator, p: F64, q: F64, n: int, m: int, runs: int) -> list[tuple[I64, I64]]:
    """Tables of levels with shares p in the baseline and q in the window; what the baseline lacks is unseen."""
    tables = []
    for reference, current in zip(rng.multinomial(m, p, runs), rng.multinomial(n, q, runs), strict=True):
        seen = reference > 0
        tables.append((cells(reference[seen], 0, 0), cells(current[seen], int(current[~seen].sum()), 0)))
    return tables


def interval(p: F64, level: float) -> tuple[float, float]:
    """Binomial interval (99.8 %, Clopper and Pearson) of the rate at which p-values reach the level."""
    hits, runs = int((p <= level).sum()), p.size
    low = float(betaincinv(hits, runs - hits + 1, 0.001)) if hits else 0.0
    high = float(betaincinv(hits + 1, runs - hits, 0.999)) if hits < runs else 1.0
    return low, high


def assert_size(p: F64) -> None:
    for level, least, most in ((0.05, 0.03, 0.06), (0.005, 0.002, 0.008)):
        low, high = interval(p, level)
        assert low <= most, f"rejects too often at {level}: at least {low:.4f}"
        assert high >= least, f"rejects too seldom at {level}: at most {high:.4f}"


def p_values(verdicts: list[Marginal], name: str | None = None) -> F64:
    return np.array([verdict.p_value if name is None else verdict.tests[name] for verdict in verdicts])


def power(test: Test, tables: list[tuple[I64, I64]]) -> float:
    return float(np.mean([test(*table).p_value <= FEATURE_LEVEL for table in tables]))


# Laws.


@st.composite
def many_tables(draw: st.DrawFn) -> I64:
    k, rows = draw(st.integers(3, 25)), draw(st.integers(2, 20))
    cell = st.one_of(st.just(0), st.integers(0, 10), st.integers(0, 300), st.integers(0, 10**6))
    side = st.lists(st.lists(cell, min_size=k, max_size=k), min_size=rows, max_size=rows)
    return np.array([draw(side), draw(side)])


@pytest.mark.parametrize("tests", [numeric_tests, all_kept])
@given(many=many_tables())
def test_a_row_of_many_has_to_the_last_bit_what_it_has_alone(
    tests: Callable[[I64, I64], list[Marginal]], many: I64
) -> None:
    alone = [tests(reference[None], current[None])[0] for reference, current in many.swapaxes(0, 1)]
    assert tests(*many) == alone


@st.composite
def tables(draw: st.DrawFn) -> tuple[I64, I64]:
    k = draw(st.integers(3, 12))
    cell = st.one_of(st.just(0), st.integers(0, 10), st.integers(0, 10**6))
    reference, current = (draw(st.lists(cell, min_size=k, max_size=k)) for _ in range(2))
    return cells(reference), cells(current)


@BOTH
@given(table=tables())
def test_whatever_the_counts_every_p_value_is_a_probability(test: Test, table: tuple[I64, I64]) -> None:
    verdict = test(*table)
    assert set(verdict.tests) == (NUMERIC if test is numeric_test else CATEGORICAL)
    for p in (verdict.p_value, *verdict.tests.values()):
        assert 0 <= p <= 1
    assert verdict.p_value >= min(verdict.tests.values()) * (1 - 1e-12)


@given(table=tables())
def test_window_and_baseline_may_change_places(table: tuple[I64, I64]) -> None:
    there, back = numeric_test(*table), numeric_test(*table[::-1])
    for name in NUMERIC:
        assert there.tests[name] == pytest.approx(back.tests[name], rel=1e-6, abs=1e-12)


@given(shape=st.lists(st.integers(0, 1000), min_size=3, max_size=12), times=st.integers(1, 50))
def test_equal_shapes_are_no_evidence(shape: list[int], times: int) -> None:
    verdict = numeric_test(cells(shape) * times, cells(shape))
    assert verdict.p_value > 0.3


@given(counts=st.lists(st.tuples(st.integers(200, 5000), st.integers(200, 5000)), min_size=4, max_size=12))
def test_mirrored_bins_give_mirrored_scores(counts: list[tuple[int, int]]) -> None:
    reference, current = np.array(counts).T
    there = numeric_test(cells(reference, 0, 0), cells(current, 0, 0))
    back = numeric_test(cells(reference[::-1], 0, 0), cells(current[::-1], 0, 0))
    for name in NUMERIC:
        assert there.tests[name] == pytest.approx(back.tests[name], rel=1e-6, abs=1e-12)


@given(
    counts=st.lists(st.tuples(st.integers(200, 5000), st.integers(200, 5000)), min_size=2, max_size=12),
    seed=st.integers(0, 2**32 - 1),
)
def test_levels_may_stand_in_any_order(counts: list[tuple[int, int]], seed: int) -> None:
    pair = np.array(counts).T
    shuffled = np.random.default_rng(seed).permutation(pair, axis=1)
    there, back = (categorical_test(cells(r, 0, 3), cells(c, 2, 5)) for r, c in (pair, shuffled))
    assert there.p_value == pytest.approx(back.p_value, rel=1e-6, abs=1e-12)


# Oracles, on samples so large that the moments of order 1 / n vanish.


def test_the_parts_are_those_of_chi_square() -> None:
    rng, bins, n, m = np.random.default_rng(3), 12, 2_000_000, 5_000_000
    shares = rng.dirichlet(np.full(bins, 5.0))
    reference, current = rng.multinomial(m, shares), rng.multinomial(n, shares)
    verdict = numeric_test(cells(reference, 0, 0), cells(current, 0, 0))

    pi = (reference + current) / (n + m)
    a = norm.ppf([pi[:b].sum() + pi[b] / 2 for b in range(bins)])
    design = np.stack((np.ones(bins), a, a**2), axis=1)
    # Weighted least squares of the difference of shares is the same projection, done by another routine.
    q, _ = np.linalg.qr(design * np.sqrt(pi)[:, None])
    z = q.T @ ((current / n - reference / m) / np.sqrt(pi)) / np.sqrt(1 / n + 1 / m)
    [x2] = chi_square(reference[None], current[None], pi[None])
    assert verdict.tests["location"] == pytest.approx(2 * norm.sf(abs(z[1])), rel=1e-3)
    assert verdict.tests["scale"] == pytest.approx(2 * norm.sf(abs(z[2])), rel=1e-3)
    assert verdict.tests["shape"] == pytest.approx(chi2.sf(x2 - z[1] ** 2 - z[2] ** 2, bins - 3), rel=1e-3)
    assert verdict.p_value == pytest.approx(1 - (1 - min(verdict.tests.values())) ** 3)

    categories = categorical_test(cells(reference, 0, 0), cells(current, 0, 0))
    assert categories.p_value == categories.tests["shape"] == pytest.approx(chi2.sf(x2, bins - 1), rel=1e-3)


def test_two_levels_are_tested_exactly() -> None:
    verdict = categorical_test(cells([990, 10], 0, 0), cells([92, 8], 0, 0))
    few = hypergeom(1100, 18, 100)
    assert verdict.p_value == verdict.tests["shape"] == pytest.approx(2 * (few.sf(8) + few.pmf(8) / 2))


@BOTH
def test_cells_that_expect_four_records_are_pooled(test: Test) -> None:
    split = test(cells([9592, 204, 204], 0, 0), cells([180, 4, 16], 0, 0))
    assert split.tests["shape"] == test(cells([9592, 408], 0, 0), cells([180, 20], 0, 0)).tests["shape"]


# Degenerate signals.


@BOTH
def test_without_values_on_a_side_only_the_missing_share_speaks(test: Test) -> None:
    values, gone = cells([100, 100, 100]), np.array([0, 0, 0])
    special = (0, 300) if test is categorical_test else (300, 0)
    for table in (
        (cells(values, 0, 0), cells(gone, *special)),
        (cells(gone, *special), cells(values, 0, 0)),
    ):
        verdict = test(*table)
        assert verdict.p_value == verdict.tests["missing"] < 1e-20
    assert test(cells(gone, *special), cells(gone, *special)).p_value == 1.0
    assert test(cells(gone, 0, 0), cells(gone, 0, 0)).p_value == 1.0


@BOTH
def test_a_constant_that_stays_is_no_evidence_and_one_that_moves_is(test: Test) -> None:
    reference = cells([0, 10_000, 0], 0, 0)
    assert test(reference, cells([0, 200, 0], 0, 0)).p_value == 1.0
    for current in ([0, 0, 200], [200, 0, 0], [0, 160, 40]):  # 200 records are too few to expect 5 anywhere else
        assert test(reference, cells(current, 0, 0)).p_value < 1e-20


def test_all_mass_in_an_open_tail_counts() -> None:
    assert numeric_test(cells(np.full(20, 500), 0, 0), cells([0] * 19 + [30], 0, 0)).p_value < 1e-12


@pytest.mark.parametrize("cell", ["missing", "nonfinite"])
def test_every_new_null_counts_apart_from_the_values(cell: str) -> None:
    special = {"missing": (120, 0), "nonfinite": (0, 120)}[cell]
    verdict = numeric_test(cells(np.full(20, 500), 0, 0), cells(np.full(20, 4), *special))
    assert verdict.tests[cell] < 1e-20
    assert min(verdict.tests[name] for name in ("shape", "location", "scale")) > 0.9


# Size.


@pytest.mark.parametrize("bins", [5, 10, 20])
@pytest.mark.parametrize("n", [200, 1000])
def test_size_on_quantile_bins_of_the_baseline_itself(bins: int, n: int) -> None:
    windows = quantile_windows(np.random.default_rng(bins), bins, n, 10_000, runs=3000)
    verdicts = numeric_tests(*stacked(windows))
    for name in (None, "location", "scale", "shape"):
        assert_size(p_values(verdicts, name))


@pytest.mark.parametrize(("levels", "exponent"), [(5, 0.0), (60, 1.0), (1000, 1.0)])
@pytest.mark.parametrize(("n", "m"), [(200, 10_000), (1000, 1000)])
def test_size_on_categories(levels: int, exponent: float, n: int, m: int) -> None:
    p = zipf(levels, exponent)
    windows = category_windows(np.random.default_rng(levels), p, p, n, m, runs=3000)
    verdicts = [categorical_test(*table) for table in windows]
    assert_size(p_values(verdicts, "shape"))
    for level in (0.05, 0.005):  # unseen levels are rare, so their exact test stays below its level
        assert interval(p_values(verdicts), level)[0] <= level
        assert interval(p_values(verdicts, "unseen"), level)[0] <= level


def test_size_of_the_share_of_missing_values() -> None:
    rng, runs = np.random.default_rng(6), 3000
    shares = np.array([*np.full(20, 0.049), 0.02, 0.0])
    verdicts = numeric_tests(rng.multinomial(10_000, shares, runs), rng.multinomial(1000, shares, runs))
    for name in (None, "missing"):
        assert_size(p_values(verdicts, name))


def test_the_band_refuses_the_smallest_of_three_p_values_without_sidak() -> None:
    windows = quantile_windows(np.random.default_rng(20), 20, 1000, 10_000, runs=3000)
    uncorrected = np.array([min(verdict.tests.values()) for verdict in numeric_tests(*stacked(windows))])
    with pytest.raises(AssertionError, match="too often"):
        assert_size(uncorrected)


def test_rare_cells_keep_the_size_far_out_where_plain_chi_square_does_not() -> None:
    rng, n, m, level = np.random.default_rng(7), 200, 10_000, 0.0005
    shares = np.array([0.75, *np.full(10, 0.025)])  # ten cells that expect 5 records
    reference, current = rng.multinomial(m, shares, 30_000), rng.multinomial(n, shares, 30_000)
    x2 = (m * current - n * reference) ** 2 / (n * m * (reference + current))
    assert interval(chi2.sf(x2.sum(axis=1), 10), level)[0] > 1.8 * level
    none = np.zeros((30_000, 2), dtype=np.int64)
    verdicts = all_kept(np.hstack((reference, none)), np.hstack((current, none)))
    assert interval(p_values(verdicts), level)[0] <= 1.3 * level


def test_rare_cells_of_two_equal_samples_use_up_the_size_where_plain_chi_square_does_not() -> None:
    rng, n, level = np.random.default_rng(13), 1000, 0.05
    shares = np.array([0.95, *np.full(10, 0.005)])
    reference, current = rng.multinomial(n, shares, 10_000), rng.multinomial(n, shares, 10_000)
    x2 = ((current - reference) ** 2 / np.maximum(reference + current, 1)).sum(axis=1)
    assert interval(chi2.sf(x2, 10), level)[1] < level
    none = np.zeros((10_000, 2), dtype=np.int64)
    shape = p_values(numeric_tests(np.hstack((reference, none)), np.hstack((current, none))), "shape")
    low, high = interval(shape, level)
    assert low <= level <= high


def test_identifiers_do_not_alarm_for_being_new() -> None:
    """Most rows of a long tail are new: (n / (n + m))^k would alarm on every window."""
    p = zipf(5000)
    windows = category_windows(np.random.default_rng(8), p, p, 1000, 10_000, runs=500)
    assert min(current[-2] for _, current in windows) > 50
    assert interval(p_values([categorical_test(*table) for table in windows]), 0.005)[0] <= 0.005


@pytest.mark.parametrize("n", [200, 1000])
def test_twenty_features_raise_at_most_three_alarms_in_two_hundred_windows(n: int) -> None:
    rng, runs = np.random.default_rng(n), 800
    numeric = p_values(numeric_tests(*stacked(quantile_windows(rng, 20, n, 10_000, 15 * runs))))
    levels = [
        categorical_test(*table).p_value for table in category_windows(rng, zipf(60), zipf(60), n, 10_000, 5 * runs)
    ]
    features = np.hstack((np.reshape(numeric, (runs, 15)), np.reshape(levels, (runs, 5))))
    assert (features.min(axis=1) <= FEATURE_LEVEL).mean() <= 0.015


# Power, at the level of a window's alarm.


def test_power_against_moved_and_widened_values() -> None:
    rng = np.random.default_rng(9)
    assert power(numeric_test, normal_windows(rng, 1000, 10_000, 200, mean=0.25)) >= 0.98
    assert power(numeric_test, normal_windows(rng, 1000, 10_000, 200, sd=1.5**0.5)) >= 0.95
    assert power(numeric_test, normal_windows(rng, 200, 10_000, 200, mean=0.5)) >= 0.98


def test_power_against_a_twentieth_of_the_records_changing_their_category() -> None:
    p = zipf(20)
    q = p.copy()
    q[[0, 10]] += (-0.05, 0.05)
    assert power(categorical_test, category_windows(np.random.default_rng(10), p, q, 1000, 10_000, 200)) >= 0.85


def test_power_against_missing_values_and_unseen_levels() -> None:
    rng, p, runs = np.random.default_rng(11), zipf(20), 200
    baseline = [cells(row, 0, 0) for row in rng.multinomial(10_000, p, runs)]
    unseen = rng.multinomial(1000, [*0.99 * p, 0.01, 0.0], runs)
    missing = rng.multinomial(1000, [*0.98 * p, 0.0, 0.02], runs)
    assert power(categorical_test, list(zip(baseline, unseen, strict=True))) >= 0.85
    assert power(categorical_test, list(zip(baseline, missing, strict=True))) >= 0.98


@pytest.mark.parametrize(("n", "m"), [(200, 10_000), (1000, 1000)])
def test_the_stated_minimum_detectable_effect_is_right_within_five_percent(n: int, m: int) -> None:
    stated = minimum_detectable_effect(n, m)
    rng = np.random.default_rng(12)
    below, above = (power(numeric_test, normal_windows(rng, n, m, 600, mean=stated * by)) for by in (0.95, 1.05))
    # The curve is so steep that 5 percent are .07 to .08 of power, four times the error of 600 runs.
    assert below < 0.8 < above


def test_the_minimum_detectable_effect_shrinks_with_rows_and_grows_with_care() -> None:
    assert minimum_detectable_effect(4000, 40_000) == pytest.approx(minimum_detectable_effect(1000, 10_000) / 2)
    assert minimum_detectable_effect(1000, 10_000, p_value=1e-6) > minimum_detectable_effect(1000, 10_000)
    assert minimum_detectable_effect(1000, 10_000, power=0.95) > minimum_detectable_effect(1000, 10_000)


TABLE = np.array([[400, 300, 300, 0, 0]])


@pytest.mark.parametrize(
    ("k0", "k", "verdict"), [(0, 40, "drift"), (0, 1, ""), (500, 0, "drift"), (500, 50, ""), (0, 0, "")]
)
def test_a_changed_share_of_text_is_a_finding_and_an_unchanged_one_is_none(k0: int, k: int, verdict: str) -> None:
    current = TABLE // 10
    plainly, [found] = numeric_test(TABLE[0], current[0]), numeric_tests(TABLE, current, np.array([[k0, k]]))
    assert (found.p_value < 1e-6) == (verdict == "drift")
    if k0 + k == 0:
        assert found == plainly
    else:
        assert found.tests["type"] == two_sided_p_value(k, 100, k0, 1000)
        assert {name: each for name, each in found.tests.items() if name != "type"} == plainly.tests


def test_text_in_one_signal_changes_nothing_for_the_others() -> None:
    tables, current = np.concatenate([TABLE, TABLE]), np.concatenate([TABLE, TABLE]) // 10
    _, other = numeric_tests(tables, current, np.array([[0, 50], [0, 0]]))
    assert other == numeric_test(TABLE[0], current[0])


def test_a_column_that_is_text_throughout_and_stays_so_is_no_evidence() -> None:
    [found] = numeric_tests(TABLE, TABLE // 10, np.array([[1000, 100]]))
    assert found == numeric_test(TABLE[0], TABLE[0] // 10)


# Columns as a baseline keeps them: more levels than it has cells for, or ties among them.


def kept_levels(k: int, exponent: float) -> Callable[[np.random.Generator, int], list[str]]:
    names, shares = np.array([f"level {each}" for each in np.random.default_rng(k).permutation(k)]), zipf(k, exponent)
    return lambda rng, n: names[rng.choice(k, n, p=shares)].tolist()


def identifiers(rng: np.random.Generator, n: int) -> list[str]:
    return [str(each) for each in rng.integers(0, 2**60, n)]


def found_by_baseline(
    column: Callable[[np.random.Generator, int], list[str]], m: int, n: int, runs: int, *, fair: bool = True
) -> F64:
    """p-values of windows without drift, each against a baseline of its own, all from one column."""
    found = []
    for run in range(runs):
        rng = np.random.default_rng((run, m, n))
        baseline = column(rng, m)
        typed = column_of(baseline)
        assert isinstance(typed, CategoricalColumn)
        signal = categorical_signal(typed)
        if not fair:  # the most frequent levels of all rows, in the order of their counts
            counted = Counter(baseline).most_common()
            levels, counts = zip(*counted[:MAX_LEVELS], strict=True)
            rest = {"other": sum(count for _, count in counted[MAX_LEVELS:]), "further": signal.further}
            signal = msgspec.structs.replace(signal, levels=list(levels), counts=list(counts), **rest)
        places = places_of(tuple(signal.levels), signal.further)
        window = np.bincount([places[level] for level in column(rng, n)], minlength=len(signal.levels) + 3)
        reference, rare = np.array(reference_cells(signal, m)), np.array(rarity(signal, m))
        found.append(categorical_tests(reference[None], window[None], rare[None])[0])
    return p_values(found)


@pytest.mark.parametrize(("m", "n"), [(500, 200), (1000, 1000)])
@pytest.mark.parametrize(
    "column",
    [kept_levels(1000, 0.0), kept_levels(150, 0.0), kept_levels(101, 0.0), kept_levels(100, 0.0), kept_levels(3000, 1.0),
     identifiers],
    ids=["1000 equal", "150 equal", "101 equal", "100 equal", "3000 by Zipf", "identifiers"],
)  # fmt: skip
def test_size_on_columns_with_as_many_levels_as_they_like(
    column: Callable[[np.random.Generator, int], list[str]], m: int, n: int
) -> None:
    found = found_by_baseline(column, m, n, runs=250)
    for level in (0.05, 0.005):
        assert interval(found, level)[0] <= level


def test_levels_chosen_and_counted_on_the_same_rows_would_alarm() -> None:
    found = found_by_baseline(kept_levels(150, 0.0), 1000, 1000, runs=200, fair=False)
    assert interval(found, 0.05)[0] > 0.3


def test_ties_pooled_in_the_order_of_the_baselines_counts_would_alarm() -> None:
    found = found_by_baseline(kept_levels(100, 0.0), 1000, 200, runs=300, fair=False)
    assert interval(found, 0.05)[0] > 0.2


def test_known_levels_beyond_the_cap_are_other_and_only_new_ones_unseen() -> None:
    rng = np.random.default_rng(1)
    layout = Layout.of(fit("m", "1", {"shop": kept_levels(1000, 0.0)(rng, 10_000)}), Plan())
    values = [*(f"level {each}" for each in range(1000)), *(f"new {each}" for each in range(20)), None]
    seen = columns([prediction({"shop": value}) for value in values], layout)
    cells_of = np.bincount(seen.cells[0] - layout.starts[0], minlength=103).tolist()
    assert (cells_of[:100], cells_of[100:]) == ([1] * 100, [900, 20, 1])
