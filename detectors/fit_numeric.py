"""Profile a numeric column: quantile bins, tails, bounds of single values, moments."""

import sys

import numpy as np

from driftline.detectors.arrays import F64
from driftline.detectors.baseline import NumericSignal
from driftline.detectors.fit_bounds import bounds_of
from driftline.detectors.fit_fed import with_fed
from driftline.detectors.normal_scores import TAIL_SHARES

N_BINS = 20


def numeric_signal(values: F64) -> NumericSignal:
    """Profile numbers: quantile bins, tails, bounds and moments.

    Examples
    --------
    >>> signal = numeric_signal(np.arange(100.0))
    >>> signal.edges[:3], signal.counts[:3], signal.low, signal.high
    ([5.0, 10.0, 15.0], [5, 5, 5], 0.0, 149.0)
    """
    finite = np.sort(values[np.isfinite(values)])
    if not finite.size:
        return NumericSignal(
            edges=[], counts=[0], missing=int(np.isnan(values).sum()), nonfinite=int(np.isinf(values).sum()),
            low=-sys.float_info.max, high=sys.float_info.max, mean=0.0, sd=0.0, tails=[0.0] * len(TAIL_SHARES),
        )  # fmt: skip
    edges = bin_edges(finite)
    bounds = bounds_of(finite)
    low, high = short(bounds.low, finite), short(bounds.high, finite)
    signal = NumericSignal(
        edges=edges.tolist(),
        counts=np.bincount(edges.searchsorted(finite, side="right"), minlength=edges.size + 1).tolist(),
        missing=int(np.isnan(values).sum()),
        nonfinite=int(np.isinf(values).sum()),
        least=None if bounds.least is None else min(bounds.least, low),
        low=low,
        high=high,
        most=None if bounds.most is None else max(bounds.most, high),
        mean=short(float(finite.mean()), finite),
        sd=float(f"{finite.std():.4g}"),
        tails=[short(each, finite) for each in np.quantile(finite, TAIL_SHARES).tolist()],
    )
    return with_fed(signal, values)


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


def short(value: float, finite: F64) -> float:
    """Round to a 10 000th of the values' spread: finer than any bin, and short to write."""
    spread = float(finite[-1] - finite[0])
    quartiles = float(np.subtract(*np.quantile(finite, [0.75, 0.25])))
    unit = quartiles or spread
    return round(value, 4 - int(np.floor(np.log10(unit)))) if 0 < unit < np.inf else value
