"""Profile rows as a whole: half-space trees run over the training rows."""

from collections.abc import Mapping

import numpy as np

from driftline.detectors import outliers
from driftline.detectors.arrays import F64
from driftline.detectors.baseline import OutlierProfile
from driftline.detectors.fit_numeric import short
from driftline.detectors.halfspace import Masses, score_and_learn


def outlier_profile(features: Mapping[str, F64]) -> OutlierProfile | None:
    """Run half-space trees over the rows in order; None where fewer than two windows of rows or no spread is left."""
    spread = {name: ranges for name, values in features.items() if (ranges := _range(values)) is not None}
    n = len(next(iter(features.values()), ()))
    if not spread or n < 2 * outliers.WINDOW:
        return None
    low, high, centre = (list(each) for each in zip(*spread.values(), strict=True))
    blank = OutlierProfile(
        features=list(spread), low=low, high=high, centre=centre, window=outliers.WINDOW,
        leaves="", scored=0, tail=[], tail_counts=[], mean_excess=1.0, dispersion=1.0,
    )  # fmt: skip
    rows = outliers.Scale.of(blank).unit_rows(np.array([features[name] for name in spread]))
    masses = Masses.empty(outliers.N_TREES, outliers.HEIGHT, outliers.WINDOW)
    scores, masses = score_and_learn(masses, outliers.leaf_numbers(rows))
    return outliers.profiled(blank, scores[outliers.WINDOW :], masses)


def _range(values: F64) -> tuple[float, float, float] | None:
    """Low and high, the .001 and .999 quantiles with a fifth of their distance beyond, and median; None if constant."""
    finite = np.sort(values[np.isfinite(values)])
    if not finite.size:
        return None
    low, centre, high = np.quantile(finite, [0.001, 0.5, 0.999]).tolist()
    margin = 0.2 * (high - low)
    return tuple(short(each, finite) for each in (low - margin, high + margin, centre)) if margin > 0 else None  # type: ignore[return-value]
