"""Bounds of single values: what is counted as out of range, and what is so far out that one value is enough to tell."""

import math
import sys
from typing import NamedTuple

import numpy as np

from driftline.detectors.arrays import F64
from driftline.detectors.statistics import tails

IMPOSSIBLE_SHARE = 1e-7
"""Share of new values that lie beyond a bound which a single value is told for."""
LEAST_FOR_TAIL, HEAVY_TAIL = 500, 0.25
"""Values from which a tail's index is estimated; the index, two errors taken off, from which a tail is heavy."""
NATURAL = (1.0, 100.0)
"""Upper limits of shares and percentages."""
APPROACH = 0.8
"""A column that reaches this share of a natural limit, and not the limit, has it."""
PROOF, NEAR = 25, 0.1
"""A limit is proven by so many values within this share of the distance between it and the median."""


class Bounds(NamedTuple):
    """Bounds of single values; see :class:`~driftline.detectors.documents.baseline.NumericSignal`."""

    least: float | None
    low: float
    high: float
    most: float | None


def bounds_of(finite: F64) -> Bounds:
    """Bounds of a column.

    ``low`` and ``high`` stretch each tail, from the median to the extreme, to twice its length; a heavy one, by Hill's
    index, to where one value in ten million lies. They keep what a person would: no sign that no value has, whole
    numbers, an upper limit of 1 or 100 that the values reach or come close to. How often a value may lie beyond them is
    not known, so they are used for counting. Beyond ``least`` and ``most`` the fitted tail has one value in ten million,
    averaged over what the baseline may have been; there is none where one value has most of the rows.

    Parameters
    ----------
    finite
        Sorted values, at least one.

    Examples
    --------
    Ages 0 to 80 around a median of 40 may reach 120, and never be negative; five are too few to know a tail.

    >>> bounds_of(np.array([0.0, 20.0, 40.0, 60.0, 80.0]))
    Bounds(least=None, low=0.0, high=120.0, most=None)
    """
    middle, below, above = _sides(finite)
    least, most = (None, None) if _is_mostly_one_value(finite) else (_sure(below), _sure(above))
    least, most = (None if least is None else middle - least), (None if most is None else middle + most)
    low = max(middle - _stretched(below), -math.inf if least is None else least)
    high = min(middle + _stretched(above), math.inf if most is None else most)
    if (finite == np.floor(finite)).all():
        low, high = math.floor(low), math.ceil(high)
    floor, ceiling = _limits(finite)
    low, high = max(_finite(low), floor), min(_finite(high), ceiling)
    if least is not None:
        least = floor if _is_proven(finite, floor) else min(_finite(least), low)
    if most is not None:
        most = ceiling if _is_proven(finite, ceiling) else max(_finite(most), high)
    return Bounds(_short(least), float(low), float(high), _short(most))


def _sides(finite: F64) -> tuple[float, F64, F64]:
    """Median, and the ascending signed distances from it to what lies below and above."""
    middle = float(np.median(finite))
    return middle, (middle - finite)[::-1], finite - middle


def _is_mostly_one_value(finite: F64) -> bool:
    """Whether more than half of the values are the same; then it is the median."""
    return bool(2 * np.count_nonzero(finite == np.median(finite)) > finite.size)


def _stretched(distances: F64) -> float:
    """How far a tail may reach from the median, given the ascending signed distances of all values."""
    twice = 2.0 * float(distances[-1])
    top = distances[-max(25, distances.size // 100) :]
    if distances.size < LEAST_FOR_TAIL or top[0] <= 0:
        return twice
    index = float(np.log(top / top[0]).mean())  # 1 / alpha; an exponential tail has about .22 here
    if index * (1 - 2 / math.sqrt(top.size)) < HEAVY_TAIL:  # not clearly heavy
        return twice
    stretch: float = (top.size / distances.size / IMPOSSIBLE_SHARE) ** min(index, 20.0)
    return max(twice, float(top[0]) * stretch)


def _sure(distances: F64) -> float | None:
    """How far a tail reaches with one value in ten million beyond; None where that can't be told."""
    tail = tails.fitted(distances)
    if tail is None:
        return None
    found = tails.reach(tail, IMPOSSIBLE_SHARE)
    return found if tail.relative else max(found, 2.0 * float(distances[-1]))


def _limits(finite: F64) -> tuple[float, float]:
    """Limits that the values keep: of the sign, and of a share or percentage."""
    smallest, largest = float(finite[0]), float(finite[-1])
    floor = 0.0 if smallest >= 0 else -math.inf
    ceiling = 0.0 if largest <= 0 else math.inf
    is_whole = bool((finite == np.floor(finite)).all())
    for limit in NATURAL:
        if smallest >= 0 and (largest == limit or (APPROACH * limit <= largest < limit and not is_whole)):
            ceiling = limit
    return floor, ceiling


def _is_proven(finite: F64, limit: float) -> bool:
    """Whether so many values lie close to a limit that it can't be chance that none lies beyond."""
    width = NEAR * abs(limit - float(np.median(finite)))
    return math.isfinite(limit) and int(np.count_nonzero(np.abs(finite - limit) <= width)) >= PROOF


def _finite(value: float) -> float:
    return min(max(value, -sys.float_info.max), sys.float_info.max)


def _short(bound: float | None) -> float | None:
    return None if bound is None else float(f"{bound:.4g}")
