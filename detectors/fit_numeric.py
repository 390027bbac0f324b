"""Profile a numeric column: quantile bins, tails, bounds of single values, moments."""

import sys

import numpy as np

from driftline.detectors.arrays import F64
from driftline.detectors.baseline import NumericSignal
from driftline.detectors.normal_scores import TAIL_SHARES

N_BINS = 20
IMPOSSIBLE_SHARE = 1e-7
"""Share of values that a heavy tail has beyond its bound."""

LEAST_FOR_TAIL, HEAVY_TAIL = 500, 0.25
"""Values from which a tail's index is estimated, and the index from which a tail is heavy."""


def numeric_signal(values: F64) -> NumericSignal:
    """Profile numbers: quantile bins, tails, bounds and moments.

    Examples
    --------
    >>> signal = numeric_signal(np.arange(100.0))
    >>> signal.edges[:3], signal.counts[:3], signal.low, signal.high
    ([5.0, 10.0, 15.0], [5, 5, 5], 0.0, 148.5)
    """
    finite = np.sort(values[np.isfinite(values)])
    if not finite.size:
        return NumericSignal(
            edges=[], counts=[0], missing=int(np.isnan(values).sum()), nonfinite=int(np.isinf(values).sum()),
            low=-sys.float_info.max, high=sys.float_info.max, mean=0.0, sd=0.0, tails=[0.0] * len(TAIL_SHARES),
        )  # fmt: skip
    edges = bin_edges(finite)
    low, high = plausible_bounds(finite)
    return NumericSignal(
        edges=edges.tolist(),
        counts=np.bincount(edges.searchsorted(finite, side="right"), minlength=edges.size + 1).tolist(),
        missing=int(np.isnan(values).sum()),
        nonfinite=int(np.isinf(values).sum()),
        low=low,
        high=high,
        mean=short(float(finite.mean()), finite),
        sd=float(f"{finite.std():.4g}"),
        tails=[short(each, finite) for each in np.quantile(finite, TAIL_SHARES).tolist()],
    )


def bin_edges(finite: F64) -> F64:
    """Edges of about 20 bins of equal baseline mass, with open tails; a bin each where there are fewer values.

    Parameters
    ----------
    finite
        Sorted values, at least one.
    """
    distinct = np.unique(finite)
    if distinct.size == 1:  # a constant: anything else is below or above
        return np.array([distinct[0], np.nextafter(distinct[0], np.inf)])
    if distinct.size <= N_BINS:
        return distinct[1:]
    places = (np.arange(1, N_BINS) * finite.size) // N_BINS
    edges = np.unique([short(edge, finite) for edge in finite[places].tolist()])
    above: F64 = edges[edges > finite[0]]
    return above


def plausible_bounds(finite: F64) -> tuple[float, float]:
    """Bounds beyond which a single value is called impossible, and never a change of sign.

    Each tail, from the median to the extreme, is stretched to twice its length. Where it is heavy, that would still be
    exceeded now and then: by Hill's estimate of its index it is stretched to where one value in ten million lies.

    Parameters
    ----------
    finite
        Sorted values, at least one.

    References
    ----------
    Hill (1975), A simple general approach to inference about the tail of a distribution, Annals of Statistics 3(5).

    Examples
    --------
    Ages 0 to 80 around a median of 40 may reach 120, and never be negative.

    >>> plausible_bounds(np.array([0.0, 20.0, 40.0, 60.0, 80.0]))
    (0.0, 120.0)
    """
    smallest, middle, largest = float(finite[0]), float(np.median(finite)), float(finite[-1])
    low, high = middle - _reach((middle - finite)[::-1]), middle + _reach(finite - middle)
    low = max(low, 0.0) if smallest >= 0 else low
    high = min(high, 0.0) if largest <= 0 else high
    return short(low, finite), short(high, finite)


def _reach(distances: F64) -> float:
    """How far a tail may reach from the median, given the ascending signed distances of all values."""
    twice = 2.0 * float(distances[-1])
    if distances.size < LEAST_FOR_TAIL:
        return twice
    top = distances[-max(25, distances.size // 100) :]
    if top[0] <= 0:  # next to nothing lies beyond the median: too little to tell how far it may reach
        return 5.0 * twice
    index = float(np.log(top / top[0]).mean())  # 1 / alpha; an exponential tail has about .22 here
    if index < HEAVY_TAIL:
        return twice
    stretch = float(np.power(top.size / distances.size / IMPOSSIBLE_SHARE, index))
    return max(twice, float(top[0]) * stretch)


def short(value: float, finite: F64) -> float:
    """Round to a 10 000th of the values' spread: finer than any bin, and short to write."""
    spread = float(finite[-1] - finite[0])
    quartiles = float(np.subtract(*np.quantile(finite, [0.75, 0.25])))
    unit = quartiles or spread
    return round(value, 4 - int(np.floor(np.log10(unit)))) if 0 < unit < np.inf else value
