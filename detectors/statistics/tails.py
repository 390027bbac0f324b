"""Tails beyond what a baseline has seen: how far a value may lie before its chance is one in a million.

Above a high quantile the excesses are taken for exponential, on the values' own scale where the tail is clearly lighter
than exponential, else on that of their logarithms (a Pareto tail). The mean excess is estimated from k values, and the
chance of a new one allows for that: averaged over what k values may have said, ``share * (1 + z / k) ** -k`` instead of
``share * exp(-z)``. So few values are extrapolated with more caution than many.

References
----------
Hill (1975), A simple general approach to inference about the tail of a distribution, Annals of Statistics 3(5).
Pickands (1975), Statistical inference using extreme order statistics, Annals of Statistics 3(1).
"""

import math

import numpy as np

from driftline.detectors.arrays import F64
from driftline.detectors.documents.outlier_profile import Tail

LEAST_EXCESSES = 25
FITTED_SHARE = 0.02
"""A tail is fitted to this share of the values, or to the least number of them where that is more."""
LIGHT_FROM, LIGHT = 2_000, 0.25
"""Values from which a tail may be called light, and the mean log excess, two errors added, below which it is. Of 1000 values, one in
a hundred columns of Student's t with five degrees of freedom would pass for light, and be told 50 times too often."""
LARGEST_EXPONENT = 600.0


def fitted(distances: F64) -> Tail | None:
    """Fit the upper tail of ascending values; None where too few of them are positive.

    Examples
    --------
    >>> tail = fitted(np.arange(1.0, 2001.0))
    >>> tail.start, tail.share, tail.relative, tail.excess
    (1960.0, 0.02, False, 20.5)
    """
    n = distances.size
    k = max(LEAST_EXCESSES, int(FITTED_SHARE * n))
    if n < 4 * LEAST_EXCESSES:
        return None
    start = float(distances[-k - 1])
    if start <= 0:  # the rest is one value: what differs from it is the tail
        positive = distances[distances > 0]
        if positive.size <= LEAST_EXCESSES:
            return None
        k, start = positive.size - 1, float(positive[0])
    top = distances[-k:]
    relative = float(np.log(top / start).mean())
    if n >= LIGHT_FROM and relative * (1 + 2 / math.sqrt(k)) < LIGHT:
        excess = float(top.mean()) - start
        return Tail(start=start, share=k / n, excess=excess, k=k, relative=False) if excess > 0 else None
    return Tail(start=start, share=k / n, excess=max(relative, LIGHT), k=k, relative=True)


def reach(tail: Tail, chance: float) -> float:
    """Distance that a new value exceeds with this chance, at most the tail's share.

    Examples
    --------
    One excess in a hundred rows says little: 10 (1 - .0001 / .01 ...) becomes 1 * (100 - 1) mean excesses.

    >>> reach(Tail(start=2.0, share=0.01, excess=1.0, k=1, relative=False), 0.0001)
    101.0
    """
    steps: float = tail.k * ((tail.share / chance) ** (1 / tail.k) - 1)
    if tail.relative:
        return tail.start * math.exp(min(steps * tail.excess, LARGEST_EXPONENT))
    return round(tail.start + steps * tail.excess, 9)


def chance_beyond(tail: Tail, distance: F64) -> F64:
    """Chance that a new value exceeds each distance, never 0; where the tail has not begun yet, its share.

    Examples
    --------
    >>> chance_beyond(Tail(start=2.0, share=0.01, excess=1.0, k=1, relative=False), np.array([1.0, 101.0]))
    array([0.01  , 0.0001])
    """
    beyond = np.maximum(distance, tail.start)
    steps = np.log(beyond / tail.start) if tail.relative else beyond - tail.start
    found: F64 = tail.share * (1 + steps / tail.excess / tail.k) ** -float(tail.k)
    return np.maximum(found, 1e-300)
