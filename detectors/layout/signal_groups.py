"""Signals of one kind with equally many cells: what is worked out of one is worked out of all of them at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driftline.detectors.arrays import F64, I64


@dataclass(frozen=True, slots=True)
class Alike:
    """Such signals of one layout.

    Parameters
    ----------
    names, is_numeric
        Which signals.
    cells
        Places of their cells in the flat vector, shape (signals, cells).
    reference
        The baseline's rows in these cells, same shape.
    positions
        A value per bin of numeric signals, in the baseline's standard deviations; zeros for categories. Shape
        (signals, cells - 2).
    rare
        Of categorical signals, baseline rows with any level, then the levels that one row has, that two have, and so on,
        shape (signals, 1 + few); zeros for numbers.
    """

    names: tuple[str, ...]
    is_numeric: bool
    cells: I64
    reference: I64
    positions: F64
    rare: I64


def grouped(
    names: Sequence[str],
    starts: I64,
    reference: I64,
    positions: Sequence[F64 | None],
    rare: Sequence[Sequence[int]],
) -> list[Alike]:
    """Group a layout's d signals.

    Parameters
    ----------
    names
        Of the signals, in the order of their cells.
    starts
        First cell of each, shape (d + 1,); the last is the end of all.
    reference
        The baseline's flat vector.
    positions
        Per signal, a value per bin; None for a categorical one.
    rare
        Per signal, its rare levels.

    Examples
    --------
    >>> bins, rare = [np.zeros(2), None, np.zeros(2)], [[0, 0]] * 3
    >>> found = grouped("abc", np.array([0, 4, 8, 12]), np.arange(12), bins, rare)
    >>> [(each.names, each.reference.tolist()) for each in found]
    [(('a', 'c'), [[0, 1, 2, 3], [8, 9, 10, 11]]), (('b',), [[4, 5, 6, 7]])]
    """
    groups: dict[tuple[bool, int], list[int]] = {}
    for place, size in enumerate(np.diff(starts).tolist()):
        groups.setdefault((positions[place] is not None, size), []).append(place)
    found = []
    for (is_numeric, size), places in groups.items():
        cells = starts[places, None] + np.arange(size)
        bins = np.zeros((len(places), size - 2))
        if is_numeric:
            bins[:] = [positions[place] for place in places]
        own = tuple(names[place] for place in places)
        found.append(Alike(own, is_numeric, cells, reference[cells], bins, np.array([rare[place] for place in places])))
    return found
