"""What a baseline's rows count for in the cells of a categorical signal: its levels, other levels, unseen ones, missing.

A row of a baseline has no unseen level. But if it had come after all others, it would have had one wherever no other row
shares its level (Good and Turing's leaving-one-out): that is what a live row is held against.
"""

from driftline.detectors.documents.baseline import CategoricalSignal
from driftline.detectors.documents.bloom_filter import FurtherLevels


def reference_cells(signal: CategoricalSignal, n: int) -> list[int]:
    """Rows per cell, of a baseline of n rows: shares that a fair window has too.

    Where all levels are kept, each has its rows in its own cell. Otherwise the levels were counted on a part of the
    rows; of the others' rows those are told to the unseen cell that would have been unseen, and of missing values as
    large a part is told.

    Examples
    --------
    Six rows of which one is missing; then the rest of a longer table, where half of the other rows are single.

    >>> kept = CategoricalSignal(levels=["a", "b"], counts=[4, 1], missing=1, few=[1] + [0] * 7, closed=False)
    >>> reference_cells(kept, 6)
    [4, 1, 0, 0, 1]
    """
    present, counted = n - signal.missing, sum(signal.counts) + signal.other
    share = counted / max(1, present)
    unseen = min(signal.other, round(share * rarity(signal, n)[1]))
    missing = round(share * signal.missing) if present else signal.missing
    return [*signal.counts, signal.other - unseen, unseen, missing]


def rarity(signal: CategoricalSignal, n: int) -> list[int]:
    """Rows with any level, levels that one row has, levels that two have, and so on, of a baseline of n rows.

    A level that was never seen may be taken for a further level that was; of the rare ones as many are left out.
    """
    told = 1 - FurtherLevels(signal.further).mistaken
    return [n - signal.missing, *(round(told * levels) for levels in signal.few)]
