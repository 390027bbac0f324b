"""Outlier scores in context: from a half-space tree score to its rank among the baseline's scores.

Scores of half-space trees have no unit, so a threshold on the score itself means nothing; its rank does. Beyond the
highest baseline score, where ranks end, the p-value goes on along a fitted tail: with t = -log(1 - score), for scores
end at 1, exceedances of t over the baseline's top percent are close to exponential (peaks over threshold). Measured on
400 000 drift-free records of four kinds each, 1 in 10 000 is exceeded 0 to 1.6 times as often, 1 in a million at most
once.

References
----------
Siffer, Fouque, Termier and Largouët (2017), Anomaly detection in streams with extreme value theory, KDD, 1067-1075.
"""

import base64
import zlib
from dataclasses import dataclass

import msgspec
import numpy as np

from driftline.detectors.arrays import F64, I64, Ints, Mask
from driftline.detectors.baseline import OutlierProfile
from driftline.detectors.halfspace import Masses, grow, leaves

N_TREES = 25
HEIGHT = 8
WINDOW = 250
"""Records per reference window, as river has it."""

TAIL_SCORES = 64
TAIL_SHARE = 0.05
"""A profile keeps at most so many of the highest baseline scores, down to this share."""

FITTED_SHARE = 0.01
"""Share of the highest baseline scores by which the tail is fitted and their clumping measured."""


@dataclass(frozen=True, eq=False)
class Scale:
    """How features become coordinates in the trees' unit cube: the baseline's ranges and medians, shape (features, 1)."""

    low: F64
    width: F64
    centre: F64

    @classmethod
    def of(cls, profile: OutlierProfile) -> "Scale":
        """Take it from a profile."""
        low, high, centre = (np.array(each)[:, None] for each in (profile.low, profile.high, profile.centre))
        return cls(low, high - low, centre)

    def unit_rows(self, numeric: F64) -> F64:
        """Scale features to [0, 1], clipped; what is not finite takes the baseline's median.

        Parameters
        ----------
        numeric
            Values, shape (features, n).

        Returns
        -------
        Shape (n, features).
        """
        unit = np.where(np.isfinite(numeric), numeric, self.centre)
        unit -= self.low
        unit /= self.width
        np.minimum(np.maximum(unit, 0.0, out=unit), 1.0, out=unit)
        return unit.T


@dataclass(frozen=True, eq=False)
class Ranks:
    """Chance of a score at least as high under the baseline: ``(1 + #{baseline >= score}) / (scored + 1)``.

    Parameters
    ----------
    tail
        High baseline scores, ascending, shape (k,).
    p_value
        Of scores between them, shape (k + 1,). Scores below the stored tail get 1: they are no outliers under any
        threshold that the profile can tell.
    least
        p-value with which the fitted tail beyond the highest begins.
    mean_excess
        Scale of that tail.
    """

    tail: F64
    p_value: F64
    least: float
    mean_excess: float

    @classmethod
    def of(cls, profile: OutlierProfile) -> "Ranks":
        """Take them from a profile."""
        reached = np.array([profile.scored, *profile.tail_counts])
        return cls(
            np.array(profile.tail), (1 + reached) / (profile.scored + 1), 1 / (profile.scored + 1), profile.mean_excess
        )

    def p_values(self, score: F64) -> F64:
        """Look up scores, shape (n,)."""
        ranked = self.p_value.take(self.tail.searchsorted(score, side="right"))
        beyond = score > self.tail[-1]
        if not beyond.any():
            return ranked
        further = _stretched(score) - _stretched(self.tail[-1:])
        return np.where(beyond, np.exp(-further.clip(0.0) / self.mean_excess) * self.least, ranked)


def leaf_numbers(rows: F64) -> I64:
    """Leaf of each row in each tree, shape (n, trees); rows of shape (n, features) in [0, 1]."""
    return leaves(grow(rows.shape[1], N_TREES, HEIGHT), rows)


def packed(leaf_counts: Ints) -> str:
    """Leaf masses as text for a profile: int16, zlib, base64. A leaf's mass never exceeds the window of 250."""
    return base64.b64encode(zlib.compress(leaf_counts.astype("<i2").tobytes(), 9)).decode()


def unpacked(text: str) -> Ints:
    """Leaf masses of shape (trees, leaves) from a profile's text."""
    raw = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), N_TREES * 2**HEIGHT * 2)
    return np.frombuffer(raw, "<i2").reshape(N_TREES, 2**HEIGHT).astype(np.int16)


def _stretched(score: F64) -> F64:
    """Scores on a scale without an upper end."""
    found: F64 = -np.log(np.maximum(1 - score, 1e-9))
    return found


def profiled(blank: OutlierProfile, score: F64, masses: Masses) -> OutlierProfile:
    """Complete a profile with the baseline's scores, shape (m,), and the masses at its end."""
    descending = np.sort(score)[::-1]
    ranks = np.unique(np.geomspace(1, max(1, TAIL_SHARE * score.size), TAIL_SCORES).astype(np.int64))
    tail = np.unique(descending[ranks - 1])
    top = _stretched(descending[: max(2, int(FITTED_SHARE * score.size))])
    assert masses.reference is not None  # the rows filled two windows
    profile: OutlierProfile = msgspec.structs.replace(
        blank,
        leaves=packed(masses.reference),
        scored=score.size,
        tail=tail.tolist(),
        tail_counts=(score.size - descending[::-1].searchsorted(tail)).tolist(),
        dispersion=dispersion(score >= np.quantile(score, 1 - FITTED_SHARE), blank.window),
        mean_excess=max(1e-6, round(float(top[:-1].mean() - top[-1]), 6)),
    )
    return profile


def dispersion(is_outlier: Mask, block: int) -> float:
    """Variance of the outliers per block of records over the binomial variance, at least 1.

    Scores of neighbours share one reference window, so outliers come in clumps; a test that took them for independent
    would cry wolf.

    Examples
    --------
    Two blocks of two: both outliers fall in one. The variance is 1, the binomial one 2 * 1/2 * 1/2.

    >>> dispersion(np.array([True, True, False, False]), 2)
    2.0
    """
    blocks = is_outlier[: is_outlier.size // block * block].reshape(-1, block).sum(axis=1)
    share = float(is_outlier.mean())
    expected = block * share * (1 - share)
    return max(1.0, round(float(blocks.var()) / expected, 3)) if expected else 1.0


def flagged(profile: OutlierProfile, share: float) -> int:
    """How many baseline records rank within a share: what the outliers of a window are held against."""
    return max((count for count in profile.tail_counts if (1 + count) / (profile.scored + 1) <= share), default=0)
