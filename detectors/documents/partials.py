"""What stage 1 tells stage 2: one partition's part of a window, and how far that partition has come."""

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np

from driftline.detectors.arrays import I64
from driftline.detectors.documents.duplicates import is_sample
from driftline.detectors.documents.new_levels import LONGEST, MOST_OF_WINDOW
from driftline.detectors.tumbling import NO_TIME

FACTS = 1000
"""Closings and idle spans in one mark at most: 20 KB."""


class ChangePoint(msgspec.Struct, frozen=True):
    """A change that an online detector declared at one record.

    Parameters
    ----------
    signal, detector
        Where and by what.
    partition, offset, event_ms
        At which record.
    before, after
        Mean normal score (for the scale detector: mean square) that the detector held before and kept after.
    """

    signal: str
    detector: str
    partition: int
    offset: int
    event_ms: int
    before: float
    after: float


MAX_CHANGES = 200
"""Change points of a window that are kept, apart from each signal's first."""


def bounded(changes: Iterable[ChangePoint]) -> tuple[ChangePoint, ...]:
    """The first ones, and the first of every signal: as many as a record has room for.

    Examples
    --------
    >>> many = [ChangePoint("a", "adwin", 0, offset, 0, 0.0, 1.0) for offset in range(MAX_CHANGES + 5)]
    >>> found = bounded([*many, ChangePoint("b", "adwin", 0, 999, 0, 0.0, 1.0)])
    >>> len(found), found[-1].signal
    (201, 'b')
    """
    signals: set[str] = set()
    kept: list[ChangePoint] = []
    for change in changes:
        if len(kept) < MAX_CHANGES or change.signal not in signals:
            kept.append(change)
        signals.add(change.signal)
    return tuple(kept)


MOST_TIMES = 2**48
"""No level comes so often in a window: sums over partitions do not wrap."""


class Partial(msgspec.Struct, frozen=True, kw_only=True, tag="partial"):
    """Counts of one window of one model version in one partition: cumulative, so the newest replaces the others.

    Parameters
    ----------
    model, version, start_ms, partition
        Which part of which window.
    baseline
        Hash of the baseline whose bins were counted.
    upto
        Offset after the record that closed the window; for an open window, of the state it was taken from.
    vector, itemsize
        The layout's flat vector as little-endian unsigned integers, as short as they can be, and the bytes of one.
    changes
        Change points in this window, in log order, bounded by :func:`bounded`.
    new_levels
        Per signal, how often each of the first levels came that the baseline never had.
    duplicates
        Sample of the window's records, as :class:`~driftline.detectors.documents.duplicates.Duplicates` writes it.
    appended_ms
        Highest append time of the partition up to there; ``NO_TIME`` if its log has none.
    """

    model: str
    version: str
    start_ms: int
    partition: int
    baseline: str
    upto: int
    vector: bytes
    itemsize: int
    changes: tuple[ChangePoint, ...] = ()
    new_levels: dict[str, dict[str, int]] = {}
    duplicates: bytes = b""
    appended_ms: int = NO_TIME

    @property
    def size(self) -> int:
        """Number of cells; -1 of a vector that is none."""
        whole = self.itemsize in (1, 2, 4, 8) and len(self.vector) % self.itemsize == 0
        return len(self.vector) // self.itemsize if whole else -1

    @property
    def n_bytes(self) -> int:
        """Bytes of what it counts, about."""
        names = sum(len(name) for names in self.new_levels.values() for name in names)
        return len(self.vector) + len(self.duplicates) + names

    @property
    def has_sound_samples(self) -> bool:
        """Whether names and sample are as short as stage 1 makes them."""
        names = [name for names in self.new_levels.values() for name in names]
        return (
            len(names) <= MOST_OF_WINDOW
            and max(map(len, names), default=0) <= LONGEST
            and all(0 < n < MOST_TIMES for names in self.new_levels.values() for n in names.values())
            and is_sample(self.duplicates)
        )

    def counts(self) -> I64:
        """The flat vector."""
        return np.frombuffer(self.vector, f"<u{self.itemsize}").astype(np.int64)


Closed = tuple[int, int, int]
"""End of a window, the append time at which it was closed, and the one from which on that shows others idle."""


class Mark(msgspec.Struct, frozen=True, tag="mark"):
    """How far an input partition has come; written to every partition of topic ``partials``.

    Parameters
    ----------
    partition, partitions
        Which input partition, of how many.
    closed_ms
        Every window that ends at or before this is closed in that partition.
    idle
        Whether the partition has been silent for a while: it holds back no provisional verdict. This alone stems from
        the wall clock; it never reaches a final verdict.
    appended_ms
        Up to which append time the log is known, 0 for none; ``NO_TIME`` where the last timestamp was its producer's.
    closings
        Ends of windows that were closed since the mark before, each with the append time at which that was, and the one
        from which on it shows that a silent partition is idle: ``idle_after_ms`` after this partition's last silence.
    idle_spans
        Append times ``[since, until)`` at which the partition was idle. A later mark may tell more of the last one.
    """

    partition: int
    partitions: int
    closed_ms: int
    idle: bool = False
    appended_ms: int = NO_TIME
    closings: tuple[Closed, ...] = ()
    idle_spans: tuple[tuple[int, int], ...] = ()

    def parts(self) -> Iterator["Mark"]:
        """The same in several marks of bounded size, to be sent in this order: a window is closed after all silences.

        Only the last one says how far the log is known.

        Examples
        --------
        >>> [part.closed_ms for part in Mark(0, 1, 9999, closings=tuple((end, 0, 0) for end in range(1, 2001))).parts()]
        [1000, 2000, 9999]
        """
        if len(self.idle_spans) + len(self.closings) <= FACTS:
            yield self
            return
        unknown_ms = min(self.appended_ms, 0)
        for start in range(0, len(self.idle_spans), FACTS):
            spans = self.idle_spans[start : start + FACTS]
            yield msgspec.structs.replace(self, closed_ms=0, appended_ms=unknown_ms, closings=(), idle_spans=spans)
        for start in range(0, len(self.closings), FACTS):
            some = self.closings[start : start + FACTS]
            yield msgspec.structs.replace(
                self, closed_ms=some[-1][0], appended_ms=unknown_ms, closings=some, idle_spans=()
            )
        yield msgspec.structs.replace(self, closings=(), idle_spans=())
