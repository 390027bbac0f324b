"""Profile a categorical column: its levels and how often each was seen."""

from collections.abc import Sequence

import numpy as np

from driftline.detectors.arrays import I64
from driftline.detectors.baselines.training import CategoricalColumn
from driftline.detectors.documents.baseline import N_FEW, CategoricalSignal
from driftline.detectors.documents.bloom_filter import packed

MAX_LEVELS = 100
"""Levels of a categorical signal that have a cell of their own; the further ones share one."""


def categorical_signal(column: CategoricalColumn) -> CategoricalSignal:
    """Profile categories.

    Where there are more than ``MAX_LEVELS`` levels, those with the largest counts are not kept: of many levels that are
    equally frequent these would be the ones that the rows happen to have too often, and the rest would be too rare, so
    that every fair sample would differ. Levels are chosen on one half of the rows and counted on the other.

    Examples
    --------
    >>> from driftline.detectors.baselines.training import column_of
    >>> signal = categorical_signal(column_of(["b", "a", "a", None, True]))
    >>> signal.levels, signal.counts, signal.missing, signal.few[0], signal.closed
    (['a', 'b', 'true'], [2, 1, 1], 1, 2, False)
    """
    present = column.codes[column.codes >= 0]
    counts = np.bincount(present, minlength=len(column.levels))
    known = counts.nonzero()[0]
    few = np.bincount(counts[known], minlength=N_FEW + 1)[1 : N_FEW + 1].tolist()
    kept = known
    if known.size > MAX_LEVELS:
        chosen_on, counted_on = _halves(present)
        counts = np.bincount(counted_on, minlength=len(column.levels))
        kept = _most_frequent(column.levels, chosen_on)
    kept_levels = sorted((column.levels[code], int(counts[code])) for code in kept.tolist())
    return CategoricalSignal(
        levels=[level for level, _ in kept_levels],
        counts=[count for _, count in kept_levels],
        other=int(counts.sum()) - sum(count for _, count in kept_levels),
        missing=column.codes.size - present.size,
        few=few,
        further=packed([column.levels[code] for code in np.setdiff1d(known, kept).tolist()]),
        closed=0 < known.size <= MAX_LEVELS and not few[0],
    )


def _halves(codes: I64) -> tuple[I64, I64]:
    """Two halves of the rows, by lot: whatever order the rows are in, it has no part in it."""
    shuffled = np.random.default_rng(0).permutation(codes)
    return shuffled[: codes.size // 2], shuffled[codes.size // 2 :]


def _most_frequent(levels: Sequence[str], codes: I64) -> I64:
    """Codes of the levels that most of the rows have, at most ``MAX_LEVELS``; among equals by name."""
    counts = np.bincount(codes, minlength=len(levels))
    ranked = sorted(counts.nonzero()[0].tolist(), key=lambda code: (-counts[code], levels[code]))
    return np.array(ranked[:MAX_LEVELS], np.int64)
