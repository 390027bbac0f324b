"""Normal scores: a value's rank in the baseline, as a quantile of the standard normal distribution.

Raw heavy-tailed columns make ADWIN cry wolf; their normal scores do not. The ranks come from what a profile holds
anyway, its bins, and from ten more quantiles for the outer bins, so that a profile of 200 features stays under 100 KB.
"""

import numpy as np
from scipy.special import ndtri

from driftline.detectors.arrays import F64, I64

TAIL_SHARES = (0.0, 0.001, 0.005, 0.01, 0.025, 0.975, 0.99, 0.995, 0.999, 1.0)
"""Shares of the baseline at which a profile stores quantiles beside its bins."""

LEAST_SHARE = 1e-4
"""Share that the baseline's extremes stand for: their normal scores are -3.72 and 3.72, and none lies beyond."""


def knots(edges: F64, counts: I64, tails: F64) -> tuple[F64, F64]:
    """Values and their normal scores, between which one interpolates and beyond which the outer score holds.

    Parameters
    ----------
    edges
        Ascending bin edges, shape (k,).
    counts
        Baseline rows per bin, shape (k + 1,).
    tails
        Quantiles at ``TAIL_SHARES``, ascending.

    Returns
    -------
    Distinct ascending values, the edges among them, and their normal scores, ascending.

    Examples
    --------
    Half of the rows lie below 10, so 10 is the median and its score 0; the baseline ranges from 0 to 20.

    >>> values, scores = knots(np.array([10.0]), np.array([50, 50]), np.linspace(0.0, 20.0, 10))
    >>> scores[values == 10.0].tolist(), float(values[0]), float(scores[0])
    ([0.0], 0.0, -3.719)
    """
    below = counts.cumsum()[:-1] / max(1, counts.sum())
    values = np.concatenate([edges, tails])
    shares = np.concatenate([below, TAIL_SHARES])
    distinct, place = np.unique(values, return_inverse=True)
    # Where quantiles tie, the value stands for the middle of the ranks that it covers.
    middle = (_extreme(np.minimum, 1.0, place, shares) + _extreme(np.maximum, 0.0, place, shares)) / 2
    rising = np.maximum.accumulate(middle)
    return distinct, ndtri(rising.clip(LEAST_SHARE, 1 - LEAST_SHARE))


def _extreme(choose: np.ufunc, start: float, place: I64, shares: F64) -> F64:
    """Smallest or largest share per distinct value."""
    found = np.full(int(place.max()) + 1, start)
    choose.at(found, place, shares)
    return found
