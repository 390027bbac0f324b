"""Records that are far out in two features at once, which half-space trees can't tell from those at their cube's edge.

A feature's surprise is ``-log`` of the chance to lie at least as far out on either side: by its normal score within the
baseline's range, and beyond that along a straight line to 1 in ten million at the bound where a single value is told.
With surprises for values, tails of all features are exponential with mean 1, and so is the second largest of a row's,
with a mean of less than 1 that says how features go to extremes together; it is fitted like any tail.

References
----------
Ledford and Tawn (1996), Statistics for near independence in multivariate extreme values, Biometrika 83(1), 169-187.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, ndtri_exp

from driftline.detectors.arrays import F64, I64, Mask
from driftline.detectors.documents.baseline import NumericSignal
from driftline.detectors.documents.outlier_profile import OutlierProfile, Tail
from driftline.detectors.statistics import tails
from driftline.detectors.statistics.bounds import IMPOSSIBLE_SHARE
from driftline.detectors.statistics.normal_scores import LEAST_SHARE

HIGHEST_RANK = -math.log(2 * LEAST_SHARE)
"""No normal score stands for more than this surprise."""
LEAST_BINS = 11
"""Bins of a feature with so many values that its surprise means something."""


@dataclass(frozen=True, eq=False)
class Surprise:
    """How to turn values into surprises.

    Parameters
    ----------
    low, high
        The baseline's smallest and largest value of each feature, shape (features, 1).
    below, above
        Surprise that each unit beyond them adds, same shape; 0 where it is not known where a single value is told.
    extreme
        Surprise of these values: one row in the baseline lies as far out on either side.
    """

    low: F64
    high: F64
    below: F64
    above: F64
    extreme: float

    @classmethod
    def of(cls, signals: Sequence[NumericSignal], rows: int) -> "Surprise":
        """Take it from the profiles of features in a baseline of so many rows."""
        extreme = math.log((rows + 1) / 2)
        low, high = (np.array([signal.tails[place] for signal in signals])[:, None] for place in (0, -1))
        below = [_slope(extreme, signal.tails[0], signal.least) for signal in signals]
        above = [_slope(extreme, signal.tails[-1], signal.most) for signal in signals]
        return cls(low, high, np.array(below)[:, None], np.array(above)[:, None], extreme)

    def second(self, values: F64, scores: F64, finite: Mask) -> F64:
        """Second largest surprise of each row; values that are not finite have none.

        Parameters
        ----------
        values, scores, finite
            Values, their normal scores, and which of them are finite, shape (features, n), of two features at least.
        """
        values, scores = np.where(finite, values, self.low), np.where(finite, scores, 0.0)
        found = np.minimum(-log_ndtr(-np.abs(scores)) - math.log(2), self.extreme)
        found += np.maximum(values - self.high, 0.0) * self.above + np.maximum(self.low - values, 0.0) * self.below
        second: F64 = np.partition(np.where(finite, found, 0.0), -2, axis=0)[-2]
        return second


@dataclass(frozen=True, eq=False)
class Joint:
    """What tells records that are far out in two features at once.

    Parameters
    ----------
    surprise
        Of the features.
    tail
        Of the second largest surprise.
    threshold
        Second largest surprise from which a record is told.
    score
        Normal score beyond which, on either side, two features must lie for that: nearly all records stop here.
    """

    surprise: Surprise
    tail: Tail
    threshold: float
    score: float

    @classmethod
    def of(cls, profile: OutlierProfile, signals: Sequence[NumericSignal], chance: float) -> "Joint | None":
        """Take it from a profile and its features' signals; None where the tail is not known or can't be reached."""
        tail, surprise = profile.joint_tail, Surprise.of(signals, profile.scored)
        if tail is None:
            return None
        threshold = tails.reach(tail, min(chance, tail.share))
        score = float(-ndtri_exp(-min(threshold, surprise.extreme, HIGHEST_RANK) - math.log(2)))
        reachable = np.count_nonzero(((surprise.below + surprise.above) > 0).any(axis=1))
        if threshold > surprise.extreme and reachable < 2:
            return None
        return cls(surprise, tail, threshold, score * (1 - 1e-9))

    def found(self, features: I64, values: F64, scores: F64, finite: Mask) -> dict[int, float]:
        """Rows that are told, and the chance of each.

        Parameters
        ----------
        features
            Which of the signals are the features.
        values, scores, finite
            Values, normal scores and which are finite, shape (signals, n).
        """
        far = (np.abs(scores[features]) >= self.score) & finite[features]
        rows = (far.sum(axis=0) >= 2).nonzero()[0]
        if not rows.size:
            return {}
        second = self.surprise.second(*(each[np.ix_(features, rows)] for each in (values, scores, finite)))
        told = second >= self.threshold
        return dict(zip(rows[told].tolist(), tails.chance_beyond(self.tail, second[told]).tolist(), strict=True))


def is_graded(signal: NumericSignal) -> bool:
    """Whether a feature's values are so many, and so evenly spread, that its ranks say how far out a value lies."""
    return bool(signal.fed) and len(signal.counts) >= LEAST_BINS


def _slope(surprise: float, extreme: float, told: float | None) -> float:
    """Surprise per unit from the baseline's extreme, which has some, to where a single value is told.

    Examples
    --------
    From 1 in 10 000 to 1 in 10 000 000 over ten units.

    >>> round(_slope(math.log(1e4), 5.0, 15.0), 3)
    0.691
    """
    if told is None or told == extreme:
        return 0.0
    return (-math.log(IMPOSSIBLE_SHARE) - surprise) / abs(told - extreme)
