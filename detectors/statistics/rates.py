"""Is a rate in the window the baseline's rate? Exact tests on two counts.

Given the total number of hits, the hits that fall into the window follow a Pólya urn: draw a ball, put it back with
c more of its colour (c as a fraction of the urn). Without replacement (c = -1/N) it is the hypergeometric
distribution, which is exact for independent rows; c = 0 is the binomial and c > 0 the beta-binomial, for hits that
come in bursts. One sum serves rare and common hits alike, so no threshold switches to a normal approximation.
"""

import math
from typing import NamedTuple

import numpy as np

from driftline.detectors.arrays import F64

_TAIL_SDS = 12.0  # a normal tail beyond 12 standard deviations holds 1e-33
_TAIL_BURSTS = 40.0  # bursts of mean size phi die out like exp(-k / phi): 1e-17 beyond 40 of them


def two_proportion_p_value(k: int, n: int, k0: int, m: int, dispersion: float = 1.0) -> float:
    """Probability of at least ``k`` hits in the window if its rate is the baseline's: small means *more* hits.

    One-sided and exact (Fisher), hence valid for rare hits: its size never exceeds the level.

    Parameters
    ----------
    k, n
        Hits and rows in the window, ``0 <= k <= n``.
    k0, m
        Hits and rows in the baseline, ``0 <= k0 <= m``.
    dispersion
        Variance of a window's hits as a multiple of that of independent rows, at least 1. For large counts it divides
        z by its root; for small ones the beta-binomial allows for a few bursts.

    Returns
    -------
    p-value in (0, 1]; 1.0 without hits or rows. Below about 1e-17 it is an upper bound.

    Examples
    --------
    All 2 hits among 4 rows fall into the window's 2 rows: one of the 6 ways to choose them.

    >>> two_proportion_p_value(2, 2, 0, 2)
    0.166667

    Were the two hits one burst (any dispersion of 2 or more), the half of the rows would hold it every other time.

    >>> two_proportion_p_value(2, 2, 0, 2, dispersion=3)
    0.5
    """
    if k == 0:
        return 1.0
    urn = _urn(k, n, k0, m, dispersion)
    return min(1.0, float(urn.weights[urn.at :].sum() / urn.weights.sum()))


def two_sided_p_value(k: int, n: int, k0: int, m: int) -> float:
    """Probability of a count as far off as ``k`` hits in the window, up or down, if its rate is the baseline's.

    Twice the smaller tail, with half the weight of ``k`` itself (Lancaster's mid-p), at most 1. Doubling pays for the
    half where only one tail can be significant, so rare hits keep their level; common ones are not conservative.

    Parameters
    ----------
    k, n
        Hits and rows in the window, ``0 <= k <= n``.
    k0, m
        Hits and rows in the baseline, ``0 <= k0 <= m``.

    Examples
    --------
    Both of 2 hits among 4 rows in the window's 2 rows: twice the half of one in 6.

    >>> two_sided_p_value(2, 2, 0, 2)
    0.166667
    """
    if k + k0 == 0:
        return 1.0
    urn = _urn(k, n, k0, m, 1.0)
    half = urn.weights[urn.at] / 2
    tail = min(urn.weights[: urn.at].sum(), urn.weights[urn.at + 1 :].sum())
    return min(1.0, float(2 * (tail + half) / urn.weights.sum()))


class _Urn(NamedTuple):
    weights: F64  # of consecutive possible numbers of hits, up to a common factor
    at: int  # where the observed number stands among them


def _urn(k: int, n: int, k0: int, m: int, dispersion: float) -> _Urn:
    """Weigh the possible numbers of the k + k0 hits that fall into the window, by the ratio of neighbours."""
    hits, rows = k + k0, n + m
    share = n / rows
    variance_factor = dispersion * (rows - hits) / max(rows - 1, 1)  # over the binomial's
    # Hits that vary more than as one single burst do not exist: the urn then deals all of them to one side.
    returned = (variance_factor - 1) / (hits - variance_factor) if hits > variance_factor else 1e9
    mean = hits * share
    reach = _TAIL_SDS * math.sqrt(mean * (1 - share) * variance_factor) + _TAIL_BURSTS * dispersion
    start = max(0, hits - m, math.floor(mean - reach))
    stop = min(n, hits, math.ceil(mean + reach))
    j = np.arange(start, stop, dtype=np.float64)
    ratio = (hits - j) * (share + j * returned) / ((j + 1) * (1 - share + (hits - j - 1) * returned))
    log_weights = np.concatenate(([0.0], np.cumsum(np.log(ratio))))
    return _Urn(np.exp(log_weights - log_weights.max()), min(max(k, start), stop) - start)
