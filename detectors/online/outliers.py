"""Outliers in context: from a half-space tree score to its rank among the baseline's scores, and to a tail beyond them.

Scores of half-space trees have no unit, so a threshold on the score itself means nothing; its rank does. Which records
of a window rank as outliers is decided by ranks, in which tied scores share the highest rank of them all. A single
record is told by the fitted tail of t = -log(1 - score), where there is one and where it can be reached: scores end at
the one that a record far out in every feature gets, and in few dimensions that is not rare enough.

References
----------
Siffer, Fouque, Termier and Largouët (2017), Anomaly detection in streams with extreme value theory, KDD, 1067-1075.
"""

from dataclasses import dataclass

import numpy as np

from driftline.detectors.arrays import F64, I64, Mask
from driftline.detectors.documents.outlier_profile import HEIGHT, N_TREES, OutlierProfile
from driftline.detectors.online.halfspace import grow, leaves
from driftline.detectors.statistics import tails

WINDOW = 250
"""Records per reference window, as river has it."""
HIGHEST = 1e-9
"""Least distance of a score from 1."""


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


@dataclass(frozen=True)
class Ranks:
    """What a score means, held against the baseline's.

    Parameters
    ----------
    outlying
        Scores from this one on rank within the plan's share of outliers; above 1 where none does.
    flagged
        Baseline rows that do.
    """

    outlying: float
    flagged: int

    @classmethod
    def of(cls, profile: OutlierProfile, share: float) -> "Ranks":
        """Ranks under a share of outliers: ``(1 + #{baseline >= score}) / (scored + 1)`` is at most that share.

        Examples
        --------
        Of 99 rows, 9 score at least .5 and 1 at least .8; only the 1 ranks within two hundredths.

        >>> profile = OutlierProfile(
        ...     features=["x"], low=[0.0], centre=[0.5], high=[1.0], window=250, leaves="", scored=99,
        ...     tail=[0.5, 0.8], tail_counts=[9, 1], dispersion=1.0,
        ... )
        >>> Ranks.of(profile, 0.02)
        Ranks(outlying=0.8, flagged=1)
        """
        for score, count in zip(profile.tail, profile.tail_counts, strict=True):
            if (1 + count) / (profile.scored + 1) <= share:
                return cls(score, count)
        return cls(float(np.nextafter(profile.tail[-1], np.inf)) if (1 / (profile.scored + 1) <= share) else 2.0, 0)

    def are_outliers(self, score: F64) -> Mask:
        """Which scores, shape (n,), rank as outliers."""
        return score >= self.outlying


def alerting_score(profile: OutlierProfile, chance: float) -> float | None:
    """Score that a record reaches with this chance; None where the tail is not known, or ends before that.

    Where the baseline's ranks can tell, they do: on ten thousand rows down to some in ten thousand.
    """
    ranks = Ranks.of(profile, chance)
    if ranks.flagged or profile.score_tail is None:
        return ranks.outlying if ranks.flagged else None
    found = 1 - float(np.exp(-tails.reach(profile.score_tail, min(chance, profile.score_tail.share))))
    return found if found < profile.highest else None


def chance_of(profile: OutlierProfile, score: float) -> float:
    """Chance of a record with a score at least as high, by ranks or, where that is less, by the tail; never 0."""
    reached = [count for each, count in zip(profile.tail, profile.tail_counts, strict=True) if each <= score]
    ranked = (1 + min(reached, default=profile.scored)) / (profile.scored + 1)
    if profile.score_tail is None:
        return ranked
    [beyond] = tails.chance_beyond(profile.score_tail, stretched(np.array([score]))).tolist()
    return min(ranked, beyond) if beyond < profile.score_tail.share else ranked


def stretched(score: F64) -> F64:
    """Scores on a scale without an upper end."""
    found: F64 = -np.log(np.maximum(1 - score, HIGHEST))
    return found


def leaf_numbers(rows: F64) -> I64:
    """Leaf of each row in each tree, shape (n, trees); rows of shape (n, features) in [0, 1]."""
    return leaves(grow(rows.shape[1], N_TREES, HEIGHT), rows)
