"""Profile a categorical column: its levels and how often each was seen."""

import numpy as np

from driftline.detectors.baseline import CategoricalSignal
from driftline.detectors.training import CategoricalColumn

MAX_LEVELS = 100
"""Levels of a categorical signal that a profile keeps; rarer ones count as unseen."""


def categorical_signal(column: CategoricalColumn) -> CategoricalSignal:
    """Profile categories.

    Examples
    --------
    >>> from driftline.detectors.training import column_of
    >>> signal = categorical_signal(column_of(["b", "a", "a", None, True]))
    >>> signal.levels, signal.counts, signal.missing, signal.closed
    (['a', 'b', 'true'], [2, 1, 1], 1, False)
    """
    present = column.codes[column.codes >= 0]
    counts = np.bincount(present, minlength=len(column.levels)).tolist()
    counted = [(level, count) for level, count in zip(column.levels, counts, strict=True) if count]
    ranked = sorted(counted, key=lambda item: (-item[1], item[0]))
    kept, rare = ranked[:MAX_LEVELS], ranked[MAX_LEVELS:]
    return CategoricalSignal(
        levels=[level for level, _ in kept],
        counts=[count for _, count in kept],
        missing=column.codes.size - present.size,
        unseen=sum(count for _, count in rare),
        closed=not rare and min((count for _, count in kept), default=0) > 1,
    )
