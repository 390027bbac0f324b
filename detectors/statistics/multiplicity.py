"""Several p-values, one decision: over the tests of a feature, over features, and for a list of suspects.

Bonferroni decides whether a window alarms, because it holds under any dependence between features.
Benjamini-Hochberg then names the features that moved.
"""

import math

import numpy as np
import numpy.typing as npt

from driftline.detectors.arrays import F64


def sidak(p_min: float, c: int) -> float:
    r"""Combine the smallest of ``c`` independent p-values, :math:`1 - (1 - p)^c` (Šidák 1967).

    Parameters
    ----------
    p_min
        The smallest p-value, in [0, 1].
    c
        Number of tests it is the smallest of; 0 gives 1.0, as nothing was tested.

    Examples
    --------
    Two tests, the smaller p-value is one half: both stay above it with probability 1/4.

    >>> sidak(0.5, 2)
    0.75
    """
    if c == 0 or p_min >= 1:
        return 1.0
    return -math.expm1(c * math.log1p(-p_min))


def bonferroni(p: F64) -> F64:
    """Adjust d p-values so that the chance of *any* false rejection is held: ``d * p``, at most 1.

    Parameters
    ----------
    p
        p-values, shape (d,).

    Returns
    -------
    Adjusted p-values, to be compared with the family-wise error rate, shape (d,).

    Examples
    --------
    >>> bonferroni(np.array([0.01, 0.02, 0.9])).tolist()
    [0.03, 0.06, 1.0]
    """
    return np.minimum(1.0, p * p.size)


def benjamini_hochberg(p: F64, q: float) -> npt.NDArray[np.bool_]:
    """Which of d hypotheses fall when the expected *share* of false ones among them is held at ``q``.

    The i-th smallest p-value is compared with ``q i / d``; everything up to the last one that passes is rejected.
    Benjamini and Hochberg, J. R. Stat. Soc. B 57 (1995) 289-300.

    Parameters
    ----------
    p
        p-values, shape (d,).
    q
        False discovery rate, in (0, 1).

    Returns
    -------
    Mask of shape (d,), True where the hypothesis is rejected.

    Examples
    --------
    Lines .0125, .025, .0375, .05: the third p-value passes its line, so the second falls too, though above its own.

    >>> benjamini_hochberg(np.array([0.9, 0.03, 0.01, 0.036]), 0.05).tolist()
    [False, True, True, True]
    """
    order = np.argsort(p, kind="stable")
    passing = np.flatnonzero(p[order] * p.size <= q * np.arange(1, p.size + 1))
    rejected = np.zeros(p.size, dtype=np.bool_)
    if passing.size:
        rejected[order[: passing[-1] + 1]] = True
    return rejected
