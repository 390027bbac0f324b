"""What a partition had counted in a window before its newest partial, and what it counted too late."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from driftline.detectors.documents.partials import Mark, Partial
from driftline.detectors.layout.vector_layout import LATE, N
from driftline.detectors.verdicts.finality import EVER

Place = tuple[int, int]
"""Window start and input partition."""


@dataclass(slots=True)
class Earlier:
    """Partials of one model version that newer ones have followed, and records that final verdicts lack.

    Parameters
    ----------
    partials
        By window and partition, oldest first: a window may turn out to have been final before its newest partial.
    counted
        Records of final windows that are in the verdict, or were found missing there, while the partition has the
        window open.
    """

    partials: dict[Place, list[Partial]] = field(default_factory=dict)
    counted: dict[Place, int] = field(default_factory=dict)

    def newest(self, known: Partial | None, partial: Partial) -> Partial:
        """The newer of two partials of a window; the other is kept if the window may be final by it."""
        if known is None:
            return partial
        if partial.upto < known.upto or (partial.vector, partial.changes) == (known.vector, known.changes):
            return known
        if partial.appended_ms > known.appended_ms:
            self.partials.setdefault((partial.start_ms, partial.partition), []).append(known)
        return partial

    def all(self, newest: Partial) -> list[Partial]:
        """All of a window's partials that are kept, oldest first."""
        return [*self.partials.get((newest.start_ms, newest.partition), ()), newest]

    def settle(self, newest: Partial, appended_ms: int) -> tuple[Partial | None, int]:
        """Return a final window's partial by records appended up to a moment, if any, and how many came after it."""
        counted = [each for each in self.all(newest) if each.appended_ms <= appended_ms]
        place = newest.start_ms, newest.partition
        self.partials.pop(place, None)
        # Once more after a crash: what is known to have come too late stays known.
        self.counted[place] = max(self.counted.get(place, 0), _rows(counted[-1]) if counted else 0)
        return counted[-1] if counted else None, self.missed(newest)

    def missed(self, partial: Partial) -> int:
        """How many records a partition has counted in a final window, beyond those that are known."""
        place, rows = (partial.start_ms, partial.partition), _rows(partial)
        known = self.counted.get(place, 0)
        self.counted[place] = max(known, rows)
        return max(0, rows - known)

    def prune(self, mark: Mark) -> bool:
        """Drop partials by which no window can be final, for no silence followed them; return whether there were any.

        A window is final where the partition is idle, or has closed it and so sent its last partial. What is left is
        bounded by the silences in the partition's log, and by the windows of append time in which it stood, since the
        append time up to which all partitions are known; however often it seemed silent to a clock.
        """
        found = False
        for place in [each for each in self.partials if each[1] == mark.partition]:
            parts = self.partials[place]
            nexts = [each.appended_ms for each in parts[1:]]
            kept = [
                each
                for each, until_ms in zip(parts, [*nexts, EVER], strict=True)
                if until_ms > mark.appended_ms or _was_idle(mark, each.appended_ms, until_ms)
            ]
            found = found or len(kept) < len(parts)
            self.partials[place] = kept
        return found

    def forget(self, closed_ms: Mapping[int, int], window_ms: int) -> None:
        """Drop what belongs to windows that their partition has closed: nothing is added to them any more."""
        for start_ms, partition in list(self.counted):
            if start_ms + window_ms <= closed_ms.get(partition, 0):
                del self.counted[start_ms, partition]


def _was_idle(mark: Mark, since_ms: int, until_ms: int) -> bool:
    """Whether a partition was idle at some append time in ``[since_ms, until_ms)``."""
    return any(since < until_ms and since_ms < until for since, until in mark.idle_spans)


def _rows(partial: Partial) -> int:
    return int(partial.counts()[[N, LATE]].sum()) if partial.vector else 0
