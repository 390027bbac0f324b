"""What ADWIN is fed of a signal, by detector: functions of its normal scores and of which of its values are finite."""

import numpy as np

from driftline.detectors.arrays import F64, Mask

SCALE_CAP = 9.0
"""Squares of normal scores are cut here (3 sigma), so that one extreme value is no change of scale."""


def _location(normal_scores: F64, finite: Mask) -> F64:
    """The scores themselves; what is not finite stands at the centre, 0, and is counted apart."""
    return np.where(finite, normal_scores, 0.0)


def _scale(normal_scores: F64, finite: Mask) -> F64:
    """Capped squares; what is not finite stands at their mean, 1."""
    return np.where(finite, np.minimum(normal_scores * normal_scores, SCALE_CAP), 1.0)


STREAMS = {"adwin": _location, "adwin_scale": _scale}
