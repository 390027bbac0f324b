"""Distances between two count vectors over the same cells: how far a window is from its baseline.

They describe severity in the terms people know. None of them decides: their size without any drift depends on the
number of rows, which is the business of :mod:`driftline.detectors.statistics.marginal`.

All take ``(reference, current, positions)``: records per cell in the baseline and in the window, int64 of
shape (signals, k), and a representative value of each cell in units of the baseline's standard deviation, ascending,
float64 of the same shape, which only :func:`wasserstein` reads. They return one distance a row, shape (signals,), which
depends on that row only. All are 0 for equal shapes, never negative, and finite with empty cells. Both sides of a row
have records; :func:`distances` is for rows that may have none.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import rel_entr

from driftline.detectors.arrays import F64, I64


def psi(reference: I64, current: I64, positions: F64) -> F64:  # noqa: ARG001 - one signature for all
    r"""Compute the population stability index, :math:`\sum_b (q_b - p_b) \ln (q_b / p_b)`, in nats.

    Also known as Jeffreys' divergence.
    Each cell gets half a pseudo-record of the smaller sample, and the same *share* in the larger one: empty cells stay
    finite and equal shapes give exactly 0 whatever the two totals. Without drift its mean is about (k - 1)(1/n + 1/m).

    Parameters
    ----------
    reference, current
        Records per cell, shape (signals, k).
    positions
        Not read.

    Examples
    --------
    Shares (1/2, 1/2) and, with half a record added to each cell, (4.5/5, 0.5/5): .4 ln(.9/.5) - .4 ln(.1/.5) = .4 ln 9.

    >>> psi(np.array([[2, 2]]), np.array([[4, 0]]), np.zeros((1, 2))).tolist()
    [0.878890]
    """
    m, n = _totals(reference), _totals(current)
    prior = 0.5 / np.minimum(m, n)
    scale = 1 + prior * reference.shape[1]
    p = (reference / m + prior) / scale
    q = (current / n + prior) / scale
    found: F64 = ((q - p) * np.log(q / p)).sum(axis=1)
    return found


def jensen_shannon(reference: I64, current: I64, positions: F64) -> F64:  # noqa: ARG001 - one signature for all
    r"""Jensen-Shannon distance in base 2, in [0, 1]: the root of the mean divergence from the mixture of both.

    :math:`\sqrt{(D(p \| a) + D(q \| a)) / 2}` with :math:`a = (p + q) / 2`; a metric (Endres and Schindelin 2003).
    The same as ``scipy.spatial.distance.jensenshannon(p, q, base=2)``.

    Parameters
    ----------
    reference, current
        Records per cell, shape (signals, k).
    positions
        Not read.

    Examples
    --------
    Nothing in common is one bit.

    >>> jensen_shannon(np.array([[5, 0]]), np.array([[0, 3]]), np.zeros((1, 2))).tolist()
    [1.0]
    """
    m, n = _totals(reference), _totals(current)
    p, q = reference / m, current / n
    a = (p + q) / 2
    divergence = (rel_entr(p, a) + rel_entr(q, a)).sum(axis=1) / (2 * math.log(2))
    found: F64 = np.sqrt(np.maximum(divergence, 0.0))  # rounding may leave -1e-17 for equal shapes
    return found


def kolmogorov_smirnov(reference: I64, current: I64, positions: F64) -> F64:  # noqa: ARG001 - one signature for all
    """Largest difference of the two distribution functions at a cell's upper edge, in [0, 1]; cells in order.

    A lower bound of the statistic on the raw values, which may differ most inside a cell.

    Parameters
    ----------
    reference, current
        Records per cell, shape (signals, k), cells in ascending order.
    positions
        Not read.

    Examples
    --------
    Below the first edge lie 3/4 of the one and 1/4 of the other.

    >>> kolmogorov_smirnov(np.array([[3, 1]]), np.array([[1, 3]]), np.zeros((1, 2))).tolist()
    [0.5]
    """
    m, n = _totals(reference), _totals(current)
    found: F64 = np.abs(current.cumsum(axis=1) / n - reference.cumsum(axis=1) / m).max(axis=1)
    return found


def wasserstein(reference: I64, current: I64, positions: F64) -> F64:
    """Mean distance that mass must travel to turn the one into the other, in baseline standard deviations (W1).

    The area between the two distribution functions; cells in order.

    Parameters
    ----------
    reference, current
        Records per cell, shape (signals, k), cells in ascending order.
    positions
        Value that stands for each cell, same shape, ascending, in baseline standard deviations.

    Examples
    --------
    Half of the records move from -1 to +1, two standard deviations up.

    >>> wasserstein(np.array([[4, 0]]), np.array([[1, 1]]), np.array([[-1.0, 1.0]])).tolist()
    [1.0]
    """
    m, n = _totals(reference), _totals(current)
    below = np.abs(current.cumsum(axis=1) / n - reference.cumsum(axis=1) / m)
    found: F64 = np.vecdot(below[:, :-1], np.diff(positions, axis=1))
    return found


def chi_square(reference: I64, current: I64, positions: F64) -> F64:  # noqa: ARG001 - one signature for all
    r"""Two-sample homogeneity statistic X2, :math:`\sum_b (\sqrt{m/n} O_b - \sqrt{n/m} R_b)^2 / (O_b + R_b)`.

    Pearson's statistic of the 2 by k table; cells empty on both sides are left out. Unlike the others it grows with
    the number of records: X2 = n m / (n + m) times a divergence.

    Parameters
    ----------
    reference, current
        Records per cell, R_b and O_b, shape (signals, k); totals m and n.
    positions
        Not read.

    Examples
    --------
    The table (3, 1; 1, 3) expects 2 everywhere and is off by 1 in each of 4 cells: 4 times 1/2.

    >>> chi_square(np.array([[3, 1]]), np.array([[1, 3]]), np.zeros((1, 2))).tolist()
    [2.0]
    """
    m, n = _totals(reference), _totals(current)
    weight = np.sqrt(m / n)
    # An empty cell's numerator is 0, so any divisor drops it.
    terms = (weight * current - reference / weight) ** 2 / np.maximum(reference + current, 1)
    found: F64 = terms.sum(axis=1)
    return found


def _totals(counts: I64) -> I64:
    """Records of each row, shape (signals, 1)."""
    found: I64 = counts.sum(axis=1, keepdims=True)
    return found


class Distance(NamedTuple):
    """A distance and what it needs to know about the cells."""

    function: Callable[[I64, I64, F64], F64]
    """``(reference, current, positions) -> distances``."""
    ordered: bool
    """Whether the cells must stand in ascending order: not for categories."""


def distances(name: str, reference: I64, current: I64, positions: F64) -> F64:
    """Measure one distance, by its name in :data:`DISTANCES`, on rows of which some may have no records: 0.0 there.

    Parameters
    ----------
    name
        Of the distance.
    reference, current, positions
        As all distances take them.
    """
    filled = reference.any(axis=1) & current.any(axis=1)
    found = np.zeros(len(current))
    found[filled] = DISTANCES[name].function(reference[filled], current[filled], positions[filled])
    return found


DISTANCES: dict[str, Distance] = {
    "psi": Distance(psi, ordered=False),
    "js": Distance(jensen_shannon, ordered=False),
    "ks": Distance(kolmogorov_smirnov, ordered=True),
    "wasserstein": Distance(wasserstein, ordered=True),
    "chi2": Distance(chi_square, ordered=False),
}
