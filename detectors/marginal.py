"""The calibrated marginal test: one signal of a window against its baseline.

A window of n rows and a baseline of m rows are two rows of a contingency table. Every choice made on the way - which
cells to pool, which scores to use, which tests to count - depends on the *sum* of the two rows only. Given that sum,
and without drift, the window is a random n of the n + m rows, so none of the choices can favour a rejection. The
exception is what makes a level "unseen": it is the baseline that lacks it, and both tests that meet such levels allow
for that.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import chdtrc, ndtri

from driftline.detectors.arrays import F64, I64, total
from driftline.detectors.multiplicity import sidak
from driftline.detectors.rates import two_proportion_p_value, two_sided_p_value

SMALLEST_EXPECTED_COUNT = 5
"""Cells are pooled until the smaller sample expects this many records in each."""
_SELDOM_UNSEEN = 1e-3  # chance of a level to be absent from the baseline that is too small to matter


@dataclass(frozen=True, slots=True)
class Marginal:
    """What the marginal test says about one signal in one window."""

    p_value: float
    """Šidák over those of the tests that could reject at all."""
    tests: dict[str, float]
    """p-value by test, 1.0 where the records leave nothing to test.

    ``shape`` (chi-square over the cells; for a numeric signal what location and scale leave of it), ``location`` and
    ``scale`` (numeric only), ``missing``, ``nonfinite`` (numeric only), ``unseen`` (categorical only).
    """


def numeric_test(reference: I64, current: I64) -> Marginal:
    r"""Test a numeric signal: location, scale and shape over ordered bins, share of missing and of non-finite values.

    The statistic X2 of :func:`~driftline.detectors.distances.chi_square` over adjacent bins, pooled, is split into
    orthogonal parts. With shares pi_b of both samples together, normal scores a_b = Phi^-1(mid-rank of bin b), and
    q_b = a_b^2 orthogonalised against 1 and a,

    .. math:: z = \sum_b (O_b / n - R_b / m) f_b \bigg/ \sqrt{(1/n + 1/m) \textstyle\sum_b \pi_b f_b^2}

    is z_loc for f = a and z_scale for f = q, and shape is X2 - z_loc^2 - z_scale^2. The parts are tested two-sided
    with their permutation moments to order 1/n. Where pooling leaves no more than two cells, shape is the exact test
    of one share, and location and scale stand at 1.0.

    Parameters
    ----------
    reference, current
        Records per cell of baseline and window, shape (k + 3,): k + 1 ordered bins (open tails), then missing, then
        non-finite.

    Examples
    --------
    The same table twice; then every value of the window in the upper half.

    >>> bins = np.array([500, 500, 0, 0])
    >>> numeric_test(bins, bins).p_value
    1.0
    >>> numeric_test(bins, np.array([0, 100, 0, 0])).p_value < 1e-20
    True
    """
    bins_0, bins = reference[:-2], current[:-2]
    m, n = total(reference), total(current)
    tests = _ordered(bins_0, bins)
    for name, cell in (("missing", -2), ("nonfinite", -1)):
        k, k0 = int(current[cell]), int(reference[cell])
        if 0 < k + k0 < n + m:
            tests[name] = two_sided_p_value(k, n, k0, m)
    return _combined(tests, ("shape", "location", "scale", "missing", "nonfinite"))


def categorical_test(reference: I64, current: I64) -> Marginal:
    """Test a categorical signal: shares of the levels, share of unseen levels and of missing values.

    Shape is X2 over the levels, rare ones pooled with one another, with its permutation moments to order 1/n. Unseen
    levels are judged by leaving one out (Good and Turing): a baseline row would have been unseen if no other row
    shared its level, so the k unseen rows of n are compared with the k0 single rows of m. Without any single the
    p-value is about (n / (n + m))^k; with them, that would alarm on every column of names or identifiers.

    Parameters
    ----------
    reference, current
        Records per cell of baseline and window, shape (k + 2,): k levels in any order, then unseen, then missing.

    Examples
    --------
    Both of two rows with an unseen level fall into the window's third of the 30 rows: 10 / 30 times 9 / 29.

    >>> categorical_test(np.array([20, 0, 0]), np.array([8, 2, 0])).tests["unseen"]
    0.103448
    """
    m, n = total(reference), total(current)
    unseen, missing, missing_0 = int(current[-2]), int(current[-1]), int(reference[-1])
    tests = _unordered(reference[:-1], current[:-1])
    singles = int(np.count_nonzero(reference[:-2] == 1)) + int(reference[-2])
    if unseen + singles > 0 and missing < n and missing_0 < m:
        # Unseen rows come in bursts: a level with t records in all is unseen by t rows at once.
        doubles = int(np.count_nonzero(reference[:-2] == 2))
        dispersion = 1 + 2 * n / (n + m) * doubles / max(singles, 1)
        tests["unseen"] = two_proportion_p_value(unseen, n - missing, singles, m - missing_0, dispersion)
    if 0 < missing + missing_0 < n + m:
        tests["missing"] = two_sided_p_value(missing, n, missing_0, m)
    return _combined(tests, ("shape", "missing", "unseen"))


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


def _combined(tests: dict[str, float], names: tuple[str, ...]) -> Marginal:
    p_value = sidak(min(tests.values(), default=1.0), len(tests))
    return Marginal(p_value, {name: tests.get(name, 1.0) for name in names})


def _ordered(bins_0: I64, bins: I64) -> dict[str, float]:
    if not bins_0.any() or not bins.any():
        return {}
    table = _pooled(bins_0, bins)
    if table.shares.size <= 2:
        return _one_share(bins_0, bins, table)
    scores = _scores(table.shares)
    z = scores[1:] @ table.gaps / np.sqrt(table.s)
    tests = {
        name: _p_value(float(statistic**2), _of_score(table.shares, score), table)
        for name, statistic, score in zip(("location", "scale"), z, scores[1:], strict=True)
    }
    if table.shares.size > 3:
        rest = _x2(table) - float(z @ z)
        tests["shape"] = _p_value(rest, _of_rest(table.shares, scores), table)
    return tests


def _unordered(levels_0: I64, levels: I64) -> dict[str, float]:
    """Shape of levels, the last one being all unseen levels together."""
    m, n = total(levels_0), total(levels)
    if m == 0 or n == 0:
        return {}
    both = levels_0 + levels
    # A level of t records is absent from the baseline with probability (n / (n + m))^t. Levels so rare that this
    # matters are here only because the baseline happened to catch them: alone they would look as if they vanished,
    # together with the unseen ones they are a fair sample.
    seldom = both < np.log(_SELDOM_UNSEEN) / np.log(n / (n + m))
    seldom[-1] = True
    largest_first = np.argsort(-both, kind="stable")
    kept = largest_first[~seldom[largest_first]]
    counts_0 = np.append(levels_0[kept], levels_0[seldom].sum())
    counts = np.append(levels[kept], levels[seldom].sum())
    table = _pooled(counts_0, counts)
    if table.shares.size <= 2:
        return _one_share(counts_0, counts, table)
    constant = np.ones((1, table.shares.size))
    return {"shape": _p_value(_x2(table), _of_rest(table.shares, constant), table)}


class _Table(NamedTuple):
    """The pooled 2 by k table of baseline and window."""

    counts_0: I64
    counts: I64
    shares: F64  # pi_b of both samples together
    gaps: F64  # O_b / n - R_b / m
    rows: int  # n + m
    s: float  # 1 / n + 1 / m


def _pooled(counts_0: I64, counts: I64) -> _Table:
    """Pool runs of neighbouring cells until the smaller sample, not empty, expects enough records in each."""
    m, n = total(counts_0), total(counts)
    needed = SMALLEST_EXPECTED_COUNT * (n + m) / min(n, m)
    starts, held = [0], 0
    for cell, count in enumerate((counts_0 + counts).tolist()):
        held += count
        if held >= needed:
            starts.append(cell + 1)
            held = 0
    # Behind the last start are too few records, or none: they join the run before.
    starts = starts[:-1] or [0]
    counts_0, counts = np.add.reduceat(counts_0, starts), np.add.reduceat(counts, starts)
    return _Table(counts_0, counts, (counts_0 + counts) / (n + m), counts / n - counts_0 / m, n + m, 1 / n + 1 / m)


def _one_share(counts_0: I64, counts: I64, table: _Table) -> dict[str, float]:
    """Test one share exactly: of two pooled cells, or of the fullest cell where pooling left a single one."""
    if table.shares.size == 2:
        counts_0, counts = table.counts_0, table.counts
    both = counts_0 + counts
    fullest = int(both.argmax())
    if both[fullest] == table.rows:
        return {}
    p_value = two_sided_p_value(int(counts[fullest]), total(counts), int(counts_0[fullest]), total(counts_0))
    return {"shape": p_value}


def _x2(table: _Table) -> float:
    return float((table.gaps**2 / table.shares).sum() / table.s)


def _scores(shares: F64) -> F64:
    """Constant, location and scale scores of k >= 3 cells, shape (3, k), orthonormal under the shares."""
    location = ndtri(shares.cumsum() - shares / 2)
    location -= shares @ location
    location /= np.sqrt(shares @ location**2)
    scale = location**2 - 1
    scale -= (shares @ (scale * location)) * location
    scale /= np.sqrt(shares @ scale**2)
    return np.stack((np.ones_like(shares), location, scale))


class _Moments(NamedTuple):
    """How one row of the table projects: what the cumulants of a quadratic statistic need to order 1 / n."""

    df: int  # mean of its squared length
    fourth: float  # mean of its squared length squared
    third: float  # 4 |T|^2 + 6 |tr T|^2 of its third-moment tensor T


def _of_score(shares: F64, score: F64) -> _Moments:
    return _Moments(1, float(shares @ score**4), 10 * float(shares @ score**3) ** 2)


def _of_rest(shares: F64, removed: F64) -> _Moments:
    """Of all contrasts between k cells except the (r, k) orthonormal ones, the constant among them, removed."""
    taken = (removed**2).sum(axis=0)
    left = 1 / shares - taken
    triples = np.einsum("k,ak,bk,ck->abc", shares, removed, removed, removed)
    tensor = (1 / shares - 3 * taken + 3 * shares * taken**2).sum() - (triples**2).sum()
    trace = (shares * left**2).sum() - ((removed @ (shares * left)) ** 2).sum()
    return _Moments(shares.size - len(removed), float(shares @ left**2), float(4 * tensor + 6 * trace))


def _p_value(statistic: float, moments: _Moments, table: _Table) -> float:
    """Upper tail of a quadratic statistic: a shifted gamma with its permutation mean, variance and skewness.

    Chi-square alone is too small by a factor of 5 at p = 1e-4 when few cells are rare. To order 1 / n, with
    v = n m / (n + m)^2, Haldane (Biometrika 29 (1937) 133) for the multinomial:
    k2 = 2 df + e, k3 = 8 df + 12 e + s (1 - 4 v) third, e = s ((1 - 6 v) fourth - (1 - 4 v) df (df + 2)).
    """
    df, fourth, third = moments
    v = 1 / (table.rows * table.s)
    excess = table.s * ((1 - 6 * v) * fourth - (1 - 4 * v) * df * (df + 2))
    k2 = 2 * df + excess
    k3 = 8 * df + 12 * excess + table.s * (1 - 4 * v) * third
    scale = k3 / (4 * k2)
    gamma_df = k2 / (2 * scale**2)
    shift = df - gamma_df * scale
    return float(chdtrc(gamma_df, max(statistic - shift, 0.0) / scale))
