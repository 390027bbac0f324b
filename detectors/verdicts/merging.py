"""Which windows can be judged, and by which baseline: the partitions' counts of a window are added up."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from driftline.detectors.documents.alerts import Window
from driftline.detectors.documents.duplicates import Duplicates
from driftline.detectors.documents.new_levels import bounded_names, merged
from driftline.detectors.documents.partials import Partial, bounded
from driftline.detectors.layout.vector_layout import Layout
from driftline.detectors.layout.watch import ModelKey, Watch
from driftline.detectors.verdicts.decide import Verdict, judge_windows
from driftline.detectors.verdicts.evaluate import Evidence

WINDOWS_AT_ONCE = 32
"""Windows that are judged together: enough to share the cost of calls, few enough for the memory that they take."""
HELD_PARTIALS, HELD_BYTES = 10_000, 2**25
"""Partials of final windows that wait for their baseline, at most, and the bytes of what they count."""

Parts = Mapping[int, Partial]
"""Partials of one window by input partition."""
Place = tuple[ModelKey, int]
"""A window of a model version, by its start."""


def is_ready(key: ModelKey, start_ms: int, parts: Parts, final_ms: int, watch: Watch) -> bool:
    """Whether a window that is final can be judged now: all baselines that its counts go by are known.

    A baseline of a model version that has others may have been replaced by one of them, and never come: it is waited for
    as long as idle partitions are.
    """
    if all(watch.by_hash(key, partial.baseline) for partial in parts.values()):
        return True
    patience_ms = (1 + watch.plan.max_provisional_windows) * watch.plan.window_ms
    return key in watch.layouts and start_ms + patience_ms <= final_ms


def beyond_bounds(held: Iterable[tuple[Place, Parts]]) -> Iterator[Place]:
    """Which of the windows that wait are too many: all but the newest that there is room for."""
    n = n_bytes = 0
    for place, parts in sorted(held, key=lambda each: (-each[0][1], each[0][0])):
        n += len(parts)
        n_bytes += sum(partial.n_bytes for partial in parts.values())
        if n > HELD_PARTIALS or n_bytes > HELD_BYTES:
            yield place


def verdicts_on(
    windows: Sequence[tuple[ModelKey, int, Parts]], watch: Watch, *, final: bool
) -> Iterator[tuple[Verdict | None, Layout | None, int]]:
    """Judge windows, some at once: verdict, layout, and how many partials are not in it.

    A window of which no baseline is known has no verdict.
    """
    for first in range(0, len(windows), WINDOWS_AT_ONCE):
        evidence = [_merged(*each, watch) for each in windows[first : first + WINDOWS_AT_ONCE]]
        verdicts = iter(judge_windows([found for found, _ in evidence if found is not None], final=final))
        for found, unmatched in evidence:
            yield (None, None, unmatched) if found is None else (next(verdicts), found.layout, unmatched)


def _merged(key: ModelKey, start_ms: int, parts: Parts, watch: Watch) -> tuple[Evidence | None, int]:
    """Merge the partitions' counts, which is addition."""
    hashes = {partial.baseline for partial in parts.values() if watch.by_hash(key, partial.baseline)}
    effective = watch.effective(key, start_ms)
    chosen = effective.baseline.hash if effective and effective.baseline.hash in hashes else min(hashes, default="")
    layout = watch.by_hash(key, chosen)
    if layout is None:
        return None, len(parts)
    # What waited for its baseline could not be held against it when it came.
    same = [each for _, each in sorted(parts.items()) if each.baseline == chosen and each.size == layout.size]
    vector = np.stack([layout.zero(), *(partial.counts() for partial in same)]).sum(axis=0, dtype=np.int64)
    changes = bounded(change for partial in same for change in partial.changes)
    window = Window(start_ms, start_ms + watch.plan.window_ms)
    levels = bounded_names(merged(partial.new_levels for partial in same))
    duplicates = Duplicates.merged(Duplicates.load(partial.duplicates) for partial in same)
    return Evidence(layout, window, vector, list(changes), levels, duplicates), len(parts) - len(same)
