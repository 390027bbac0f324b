"""Take the values out of a sensitive signal's profile: hashes instead of levels, coarse numbers instead of exact ones.

No number of such a profile is a value of the column, but for the limits 0, 1 and 100 that a column keeps. Edges lie between
values, and are coarse where values lie close; other numbers are the middles of cells that two digits of their distance from
the median make.
"""

import math
from dataclasses import replace

import msgspec
import numpy as np

from driftline.detectors.arrays import F64
from driftline.detectors.baselines.adwin_moments import with_fed
from driftline.detectors.baselines.numeric import spread
from driftline.detectors.baselines.training import CategoricalColumn
from driftline.detectors.documents.baseline import LARGEST, NumericSignal
from driftline.detectors.documents.level_hashes import hashed, key_of
from driftline.detectors.statistics.bounds import NATURAL

FARTHEST = 1e300
"""Bounds beyond it say that there is none."""
DIGITS = 4
"""Digits of an edge at most, and half a unit of the last one: it tells 1984 from 1985."""


def without_levels(column: CategoricalColumn, model: str, signal: str) -> CategoricalColumn:
    """The column with hashes for levels.

    Examples
    --------
    >>> column = CategoricalColumn(["red", "blue"], np.array([0, 1, 0]))
    >>> without_levels(column, "m", "colour").levels == ["red", "blue"]
    False
    """
    key = key_of(model, signal)
    return replace(column, levels=[hashed(level, key) for level in column.levels])


def blurred(signal: NumericSignal, values: F64) -> NumericSignal:
    """The profile of a column without any of its values.

    Parameters
    ----------
    signal
        The exact profile.
    values
        What it is of, shape (n,).
    """
    finite = np.sort(values[np.isfinite(values)])
    if not finite.size:
        return msgspec.structs.replace(signal, sensitive=True)
    edges = blurred_edges(signal.edges, finite)
    half = len(signal.tails) // 2
    below = [lower(each, finite) for each in signal.tails[:half]]
    above = [upper(each, finite) for each in signal.tails[half:]]
    blunt = msgspec.structs.replace(
        signal,
        edges=edges,
        counts=np.bincount(np.searchsorted(edges, finite, side="right"), minlength=len(edges) + 1).tolist(),
        least=None if signal.least is None else _lower_bound(signal.least, finite),
        low=_lower_bound(signal.low, finite),
        high=_upper_bound(signal.high, finite),
        most=None if signal.most is None else _upper_bound(signal.most, finite),
        mean=middle(signal.mean, finite),
        sd=float(f"{signal.sd:.2g}"),
        tails=sorted(min(max(each, -LARGEST), LARGEST) for each in (*below, *above)),
        fed=[],
        sensitive=True,
    )
    return with_fed(blunt, values)


def blurred_edges(edges: list[float], finite: F64) -> list[float]:
    """Edges that separate the same values as far as coarse numbers can, and are none of them.

    An edge is known to a tenth of the wider bin beside it, outer bins left aside, and to four digits and a half.

    Parameters
    ----------
    edges
        Exact ones.
    finite
        Sorted values, at least one.

    Examples
    --------
    >>> blurred_edges([1985.0, 1986.0], np.array([1984.0, 1985.0, 1986.0]))
    [1984.5, 1985.5]
    >>> blurred_edges([0.37], np.array([0.01, 0.37])), blurred_edges([7.0, np.nextafter(7, 8)], np.array([7.0]))
    ([0.2], [6.95, 7.05])
    """
    around = [lower(float(finite[0]), finite), upper(float(finite[-1]), finite)]
    if finite[0] == finite[-1]:
        return around
    widths = np.diff(edges)
    if not widths.size:
        widths = np.array([min(edges[0] - finite[0], finite[-1] - edges[0])])
    found = set()
    for place, first in enumerate(np.searchsorted(finite, edges).tolist()):
        width = float(widths[max(0, place - 1) : place + 1].max())
        edge = _edge(float(finite[first - 1]), float(finite[first]), width, finite)
        found |= set() if edge is None else {edge}
    is_split = any(finite[0] < edge <= finite[-1] for edge in found)
    return sorted(found) if is_split else around


def _edge(below: float, value: float, width: float, finite: F64) -> float | None:
    """The coarsest number between two neighbouring values, or one near them that is no value; None where there is none."""
    # From halves, for the difference of two huge ones may be infinite.
    centre, size = below / 2 + value / 2, max(abs(below), abs(value))
    finest = max(_exponent(width) - 1, _exponent(size) + 1 - DIGITS)
    for exponent in range(max(finest, _exponent(value / 2 - below / 2) + 1), finest - 1, -1):
        found = round(centre, -exponent) + 0.0  # -0.0 is 0.0
        if below < found < value:
            return found
    for found in (_cell(centre, finest), round(centre, -finest)):
        if found not in finite:
            return found
    return None


def lower(value: float, finite: F64) -> float:
    """A coarse number below a value."""
    exponent = _coarse(value, finite)
    found = _cell(value, exponent)
    return _beside(found if found < value else _cell(value - 10.0**exponent, exponent), exponent, -1, finite)


def upper(value: float, finite: F64) -> float:
    """A coarse number above a value.

    Examples
    --------
    >>> values = np.array([1000.0, 1100.0, 1200.0, 1300.0, 1400.0, 53219371.5])
    >>> lower(1000.0, values), upper(53219371.5, values)
    (995.0, 53500000.0)
    """
    exponent = _coarse(value, finite)
    found = _cell(value, exponent)
    return _beside(found if found > value else _cell(value + 10.0**exponent, exponent), exponent, 1, finite)


def middle(value: float, finite: F64) -> float:
    """A coarse number near a value."""
    exponent = _coarse(value, finite)
    return _beside(_cell(value, exponent), exponent, 1, finite)


def _lower_bound(value: float, finite: F64) -> float:
    """A bound that is coarse and outside of the exact one, on the same side of zero."""
    if value == 0 or value < -FARTHEST:
        return value
    found = lower(value, finite)
    return max(found, 0.0) if value > 0 else found


def _upper_bound(value: float, finite: F64) -> float:
    if value in (0.0, *NATURAL) or value > FARTHEST:
        return value
    found = upper(value, finite)
    return min(found, 0.0) if value < 0 else found


def _coarse(value: float, finite: F64) -> int:
    """Power of ten of the cells that two digits of a value's distance from the median make, and at most four of it."""
    size = max(abs(value - float(np.median(finite))), spread(finite)) if finite[0] < finite[-1] else abs(value)
    least = _exponent(abs(value)) + 1 - DIGITS if value else -math.inf
    return int(max(_exponent(size or 1.0) - 1, least))


def _cell(value: float, exponent: int) -> float:
    """The middle of the cell of width 10**exponent that a value lies in."""
    unit = 10.0**exponent
    return round((math.floor(value / unit) + 0.5) * unit, 1 - exponent)


def _beside(found: float, exponent: int, side: int, finite: F64) -> float:
    """A number, or where a value happens to be the same, one a twentieth of a cell beside it, or a 200th, and so on."""
    moved, digits = found, 2
    while moved in finite and digits < 18:
        moved, digits = round(found + side * 0.5 * 10.0 ** (exponent + 1 - digits), digits - exponent), digits + 1
    return moved


def _exponent(value: float) -> int:
    return math.floor(math.log10(value)) if value > 0 else -300
