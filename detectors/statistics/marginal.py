"""The calibrated marginal test: one signal of a window against its baseline.

A window of n rows and a baseline of m rows are two rows of a contingency table. Every choice made on the way - which
cells to pool, which scores to use, which tests to count - depends on the *sum* of the two rows only. Given that sum,
and without drift, the window is a random n of the n + m rows, so none of the choices can favour a rejection. The
exception is what makes a level "unseen": it is the baseline that lacks it, and both tests that meet such levels allow
for that.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from driftline.detectors.arrays import I64
from driftline.detectors.statistics.contingency import (
    Tables,
    chi_square,
    of_rest,
    of_score,
    orthonormal,
    pooled,
    upper_tails,
)
from driftline.detectors.statistics.multiplicity import sidak
from driftline.detectors.statistics.rates import two_proportion_p_value, two_sided_p_value

_SELDOM_UNSEEN = 1e-3  # chance of a level to be absent from the baseline that is too small to matter


@dataclass(frozen=True, slots=True)
class Marginal:
    """What the marginal test says about one signal in one window."""

    p_value: float
    """Šidák over those of the tests that could reject at all."""
    tests: dict[str, float]
    """p-value by test, 1.0 where the records leave nothing to test.

    ``shape`` (chi-square over the cells; for a numeric signal what location and scale leave of it), ``location`` and
    ``scale`` (numeric only), ``missing``, ``nonfinite`` (numeric only), ``unseen`` (categorical only), and ``type``
    (numeric only, and only where there are values of the wrong type).
    """
    tested: frozenset[str]
    """Which of the tests could reject at all: those, and no others, are counted."""

    @classmethod
    def of(cls, found: Mapping[str, float], names: Sequence[str]) -> "Marginal":
        """Combine the p-values of the tests that could reject, out of all those of this name."""
        p_value = sidak(min(found.values(), default=1.0), len(found))
        return cls(p_value, {name: found.get(name, 1.0) for name in names}, frozenset(found))

    def without(self, off: Collection[str]) -> "Marginal":
        """Leave out tests, as if there were none of that name.

        Examples
        --------
        >>> both = Marginal.of({"shape": 0.5, "missing": 0.25}, ("shape", "missing", "unseen"))
        >>> both.p_value, both.without(["missing", "unseen"]).p_value
        (0.4375, 0.5)
        """
        found = {name: p_value for name, p_value in self.tests.items() if name in self.tested and name not in off}
        return Marginal.of(found, [name for name in self.tests if name not in off])


def numeric_tests(reference: I64, current: I64, text: I64 | None = None) -> list[Marginal]:
    r"""Test numeric signals: location, scale and shape over ordered bins, share of missing and of non-finite values.

    The statistic X2 of :func:`~driftline.detectors.statistics.distances.chi_square` over adjacent bins, pooled, is split into
    orthogonal parts. With shares pi_b of both samples together, normal scores a_b = Phi^-1(mid-rank of bin b), and
    q_b = a_b^2 orthogonalised against 1 and a,

    .. math:: z = \sum_b (O_b / n - R_b / m) f_b \bigg/ \sqrt{(1/n + 1/m) \textstyle\sum_b \pi_b f_b^2}

    is z_loc for f = a and z_scale for f = q, and shape is X2 - z_loc^2 - z_scale^2. The parts are tested two-sided
    with their permutation moments to order 1/n. Where pooling leaves no more than two cells, shape is the exact test
    of one share, and location and scale stand at 1.0.

    Parameters
    ----------
    reference, current
        Records per cell of baseline and window, a row for each signal, shape (signals, k + 3): k + 1 ordered bins
        (open tails), then missing, then non-finite.
    text
        Rows whose value is of the wrong type, text that holds a number among them, in baseline and window, shape
        (signals, 2). Their share is one more test where there are any.

    Returns
    -------
    One result a row, which depends on that row only.

    Examples
    --------
    The same table twice; then every value of the window in the upper half.

    >>> bins = np.array([[500, 500, 0, 0]])
    >>> numeric_tests(bins, bins)[0].p_value
    1.0
    >>> numeric_tests(bins, np.array([[0, 100, 0, 0]]))[0].p_value < 1e-20
    True
    """
    tests = _tested(_ordered, reference[:, :-2], current[:, :-2])
    _add_share(tests, "missing", reference, current, -2)
    _add_share(tests, "nonfinite", reference, current, -1)
    if text is not None and text.any():
        _add_type(tests, text, reference.sum(axis=1), current.sum(axis=1))
    names = ("shape", "location", "scale", "missing", "nonfinite")
    return [Marginal.of(each, (*names, "type") if "type" in each else names) for each in tests]


def categorical_tests(reference: I64, current: I64, rare: I64) -> list[Marginal]:
    """Test categorical signals: shares of the levels, share of unseen levels and of missing values.

    Shape is X2 over the levels, rare ones pooled with one another, with its permutation moments to order 1/n. Levels
    without a cell of their own, other known ones and unseen ones, are one cell there: which of the two they are depends
    on what the baseline happened to catch. Unseen levels are judged by leaving one out (Good and Turing): a baseline row
    would have been unseen if no other row shared its level, so the k unseen rows of n are compared with the k0 single
    rows of m. Without any single the p-value is about (n / (n + m))^k; with them, that would alarm on every column of
    names or identifiers.

    Parameters
    ----------
    reference, current
        Records per cell of baseline and window, a row for each signal, shape (signals, k + 3): k levels in an order
        that knows no counts (levels that tie are pooled in it), then other levels, unseen ones, missing values.
    rare
        Baseline rows with any level, then the levels that one row has, that two have, and so on, shape (signals, 1 +
        few). These are of all rows, where those of ``reference`` may be a part.

    Returns
    -------
    One result a row, which depends on that row only.

    Examples
    --------
    Both of two rows with an unseen level fall into the window's third of the 30 rows: 10 / 30 times 9 / 29.

    >>> baseline, window, rare = np.array([[20, 0, 0, 0]]), np.array([[8, 0, 2, 0]]), np.array([[20, 0, 0]])
    >>> categorical_tests(baseline, window, rare)[0].tests["unseen"]
    0.103448
    """
    tests = _tested(_unordered, _with_one_rest(reference), _with_one_rest(current))
    _add_unseen(tests, current, rare)
    _add_share(tests, "missing", reference, current, -1)
    return [Marginal.of(each, ("shape", "missing", "unseen")) for each in tests]


def minimum_detectable_effect(n: int, m: int, p_value: float = 0.00525 / 20, power: float = 0.8) -> float:
    """Shift of the mean, in baseline standard deviations, that a window of n rows finds with probability ``power``.

    (Phi^-1(1 - t / 2) + Phi^-1(power)) sqrt(1 / n + 1 / m), where t is the level of the location test within a
    feature p-value of three tests: it is what can be seen on a signal without missing values.

    Parameters
    ----------
    n, m
        Rows of the window and of the baseline.
    p_value
        Largest feature p-value that alarms: alpha over the number of features.
    power
        Probability of the alarm, in (0, 1).

    Examples
    --------
    (3.92 + .84) sqrt(1 / 1000 + 1 / 10000) = 4.76 times .0332.

    >>> minimum_detectable_effect(1000, 10_000)
    0.158
    """
    level = p_value / 3
    return float((ndtri(1 - level / 2) + ndtri(power)) * np.sqrt(1 / n + 1 / m))


_Found = Iterator[tuple[str, I64, Sequence[float]]]
"""Name of a test, rows that it was made of, and their p-values."""


def _tested(test: Callable[[I64, I64], _Found], counts_0: I64, counts: I64) -> list[dict[str, float]]:
    """Apply a test to the rows that hold records on both sides; the others are left without."""
    tests: list[dict[str, float]] = [{} for _ in counts]
    filled = np.flatnonzero(counts_0.any(axis=1) & counts.any(axis=1))
    for name, rows, p_values in test(counts_0[filled], counts[filled]):
        for row, p_value in zip(filled[rows].tolist(), p_values, strict=True):
            tests[row][name] = p_value
    return tests


def _add_share(tests: list[dict[str, float]], name: str, reference: I64, current: I64, cell: int) -> None:
    """Test the share of one cell, unless no record fell into it or every one did."""
    sides = (current[:, cell], current.sum(axis=1), reference[:, cell], reference.sum(axis=1))
    for found, k, n, k0, m in zip(tests, *(side.tolist() for side in sides), strict=True):
        if 0 < k + k0 < n + m:
            found[name] = two_sided_p_value(k, n, k0, m)


def _add_type(tests: list[dict[str, float]], text: I64, m: I64, n: I64) -> None:
    """Test the share of values of the wrong type."""
    for found, (k0, k), m_row, n_row in zip(tests, text.tolist(), m.tolist(), n.tolist(), strict=True):
        if 0 < k + k0 < n_row + m_row:
            found["type"] = two_sided_p_value(k, n_row, k0, m_row)


def _with_one_rest(cells: I64) -> I64:
    """Levels, and all records of levels without a cell of their own together."""
    return np.concatenate((cells[:, :-3], cells[:, -3:-1].sum(axis=1, keepdims=True)), axis=1)


def _add_unseen(tests: list[dict[str, float]], current: I64, rare: I64) -> None:
    """Test the share of unseen levels."""
    present = current[:, :-1].sum(axis=1)
    sides = zip(tests, current[:, -2].tolist(), present.tolist(), rare.tolist(), strict=True)
    for found, unseen, n, (m, *few) in sides:
        if unseen + few[0] > 0 and n and m:
            found["unseen"] = two_proportion_p_value(unseen, n, few[0], m, _clumping(few, n / m))


def _clumping(few: Sequence[int], ratio: float) -> float:
    """Variance of a window's unseen rows over that of independent rows, n / m being the ratio of window and baseline.

    Unseen rows come in bursts: a level with t records in all is unseen by t rows at once. As many levels have t rows in
    the window and none in the baseline as have it the other way round, times (n / m)^t. One level more that comes once
    stands for those that a small baseline does not show.
    """
    bursts = [count * ratio**times for times, count in enumerate([few[0] + 1, *few[1:]], start=1)]
    first, second = (sum(times**power * burst for times, burst in enumerate(bursts, start=1)) for power in (1, 2))
    return second / first


def _ordered(bins_0: I64, bins: I64) -> _Found:
    for table in pooled(bins_0, bins):
        if table.shares.shape[1] <= 2:
            yield _one_share(bins_0, bins, table)
            continue
        scores = orthonormal(table.shares)
        z = (scores[:, 1:] @ table.gaps[:, :, None])[:, :, 0] / np.sqrt(table.s)[:, None]
        for place, name in enumerate(("location", "scale")):
            moments = of_score(table.shares, scores[:, place + 1])
            yield name, table.rows, upper_tails(np.float_power(z[:, place], 2), moments, table)
        if table.shares.shape[1] > 3:
            rest = chi_square(table) - np.vecdot(z, z)
            yield "shape", table.rows, upper_tails(rest, of_rest(table.shares, scores), table)


def _unordered(levels_0: I64, levels: I64) -> _Found:
    """Shape of levels, the last one being all levels without a cell of their own together."""
    m, n, both = levels_0.sum(axis=1), levels.sum(axis=1), levels_0 + levels
    # A level of t records is absent from the baseline with probability (n / (n + m))^t. Levels so rare that this
    # matters are here only because the baseline happened to catch them: alone they would look as if they vanished,
    # together with the others and unseen ones they are a fair sample.
    seldom = both < (np.log(_SELDOM_UNSEEN) / np.log(n / (n + m)))[:, None]
    seldom[:, -1] = True
    largest_first = np.where(seldom, 0, -both).argsort(axis=1, kind="stable")  # and what is seldom last, as one cell
    counts_0, counts = (
        np.take_along_axis(np.where(seldom, 0, each), largest_first, axis=1) for each in (levels_0, levels)
    )
    counts_0[:, -1], counts[:, -1] = (np.where(seldom, each, 0).sum(axis=1) for each in (levels_0, levels))
    for table in pooled(counts_0, counts):
        if table.shares.shape[1] <= 2:
            yield _one_share(counts_0, counts, table)
            continue
        constant = np.ones_like(table.shares)[:, None]
        yield "shape", table.rows, upper_tails(chi_square(table), of_rest(table.shares, constant), table)


def _one_share(counts_0: I64, counts: I64, table: Tables) -> tuple[str, I64, list[float]]:
    """Test one share exactly: of two pooled cells, or of the fullest cell where pooling left a single one."""
    is_pair = table.shares.shape[1] == 2
    counts_0, counts = (table.counts_0, table.counts) if is_pair else (counts_0[table.rows], counts[table.rows])
    fullest = (counts_0 + counts).argmax(axis=1)
    k0, k = counts_0[np.arange(len(fullest)), fullest], counts[np.arange(len(fullest)), fullest]
    mixed = (k + k0 < table.n + table.m).nonzero()[0]
    sides = (each[mixed].tolist() for each in (k, table.n, k0, table.m))
    return "shape", table.rows[mixed], list(map(two_sided_p_value, *sides))
