"""Profile a numeric column: quantile bins, tails, bounds of single values, moments."""

import sys

import numpy as np

from driftline.detectors.arrays import F64, I64, Mask
from driftline.detectors.baselines.adwin_moments import with_fed
from driftline.detectors.documents.baseline import NumericSignal
from driftline.detectors.statistics.bounds import bounds_of
from driftline.detectors.statistics.normal_scores import TAIL_SHARES

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
        tails=sorted(short(each, finite) for each in np.quantile(finite, TAIL_SHARES).tolist()),
    )
    return with_fed(signal, values)


def bin_edges(finite: F64) -> F64:
    """Edges of about 20 bins of equal baseline mass, with open tails; a bin each where there are fewer values.

    A value that has the mass of two bins gets a bin of its own, and the others share the bins that are left: a column
    that is mostly zero is told apart where it is not. Edges are as short to write as they can be without moving a row
    of the baseline to another bin.

    Parameters
    ----------
    finite
        Sorted values, at least one.

    Examples
    --------
    >>> bin_edges(np.array([0.0] * 80 + [each / 2 for each in range(1, 21)]))[:4].tolist()
    [0.5, 1.0, 1.5, 2.0]
    """
    distinct, counts = np.unique(finite, return_counts=True)
    if distinct.size == 1:  # a constant: anything else is below or above
        return np.array([distinct[0], np.nextafter(distinct[0], np.inf)])
    if distinct.size <= N_BINS:
        return distinct[1:]
    heavy, n_left = _heavy(counts)
    light = np.where(heavy, 0, counts).cumsum()
    ranks = (np.arange(1, n_left) * light[-1]) // n_left
    atoms = heavy.nonzero()[0]
    firsts = np.unique(np.concatenate((light.searchsorted(ranks, side="right"), atoms, atoms + 1)))
    firsts = firsts[(firsts > 0) & (firsts < distinct.size)]
    pairs = zip(distinct[firsts - 1].tolist(), distinct[firsts].tolist(), strict=True)
    return np.array([_shortest(below, value) for below, value in pairs])


def _heavy(counts: I64) -> tuple[Mask, int]:
    """Which of the distinct values get a bin of their own, and how many bins are left to the others."""
    heavy = np.zeros(counts.size, np.bool_)
    while True:
        n_left = N_BINS - int(np.count_nonzero(heavy))
        more = ~heavy & (counts * n_left >= 2 * counts[~heavy].sum())
        if not more.any():
            return heavy, n_left
        heavy |= more


def _shortest(below: float, value: float) -> float:
    """Shorten a number to one above ``below`` and at most itself, with as few digits as can be.

    Examples
    --------
    >>> _shortest(0.31, 0.7123), _shortest(1299.5, 1302.25), _shortest(-0.5, 0.25)
    (0.7, 1300.0, 0.0)
    """
    size = max(abs(below), abs(value))
    first = -int(np.floor(np.log10(size)))
    for digits in range(first - 1, first + 17):
        found = round(value, digits)
        if found > value:
            found = round(found - 10.0**-digits, digits)
        if below < found <= value:
            return found
    return value


def short(value: float, finite: F64) -> float:
    """Round to a 10 000th of the values' spread, but by less than half the distance to the next other value.

    So it is finer than any bin and short to write, and two of the values never become one.

    Parameters
    ----------
    value
        Any finite number.
    finite
        Sorted values, at least one.

    Examples
    --------
    >>> values = np.array([0.0, 0.26, 0.31, 40.0, 1e6])
    >>> short(0.26, values), short(0.31, values), short(1e6, values), short(4000 / 3, values)
    (0.26, 0.31, 1000000.0, 1333.333)
    """
    gaps = [abs(value - finite[at]) for at in _neighbours(value, finite)]
    unit = min([spread(finite) / 1e4, *gaps])
    for digits in range(-int(np.floor(np.log10(unit))) - 1, 18) if 0 < unit < np.inf else ():
        found = round(value, digits)
        if abs(found - value) < unit / 2:
            return found
    return value


def _neighbours(value: float, finite: F64) -> list[int]:
    """Places of the next smaller and the next larger one of sorted values."""
    below, above = int(finite.searchsorted(value, side="left")) - 1, int(finite.searchsorted(value, side="right"))
    return [at for at in (below, above) if 0 <= at < finite.size]


def spread(finite: F64) -> float:
    """Distance of the quartiles; where they are one, the mean distance from it."""
    quartiles = float(finite[3 * finite.size // 4] - finite[finite.size // 4])
    return quartiles or float(np.abs(finite - finite[finite.size // 2]).mean())
