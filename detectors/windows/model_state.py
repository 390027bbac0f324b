"""State of one model version in one partition: open windows and online detectors."""

from dataclasses import dataclass, field

import numpy as np

from driftline.detectors.arrays import I64, Ints, Mask
from driftline.detectors.documents.duplicates import Duplicates
from driftline.detectors.documents.new_levels import NewLevels
from driftline.detectors.documents.partials import ChangePoint
from driftline.detectors.layout.vector_layout import LATE, OUTLIERS, SCORED, Layout, N
from driftline.detectors.layout.watch import ModelKey
from driftline.detectors.windows.online_detectors import Online


@dataclass(slots=True)
class OpenWindow:
    """One window that still takes records.

    Parameters
    ----------
    layout
        Whose bins it counts; fixed at the window's first record.
    vector
        The layout's flat vector, in unsigned integers as short as the number of records allows.
    events
        Single-record alerts so far, per kind; beyond the plan's number they are only counted.
    changes
        Change points so far.
    new_levels
        The first levels that the baseline never had, and how often each came.
    duplicates
        How often its records repeat one another.
    """

    layout: Layout
    vector: Ints
    events: dict[str, int] = field(default_factory=dict)
    changes: list[ChangePoint] = field(default_factory=list)
    new_levels: NewLevels = field(default_factory=dict)
    duplicates: Duplicates = field(default_factory=Duplicates)

    @classmethod
    def empty(cls, layout: Layout) -> "OpenWindow":
        """A window before its first record."""
        return cls(layout, np.zeros(layout.size, np.uint8))

    def add(self, cells: I64) -> None:
        """Count records, given their cells of shape (signals, n)."""
        self._make_room(N, cells.shape[1])
        counts = np.bincount(cells.ravel(), minlength=self.layout.size)
        np.add(self.vector, counts, out=self.vector, casting="unsafe")
        self.vector[N] += cells.shape[1]

    def _make_room(self, place: int, n: int) -> None:
        """Widen all counts if one of them might not hold n records more.

        None is above the larger of those of records and of late records: whatever else is counted, a record brings once.
        """
        highest = int(self.vector[place]) + n
        if highest >> 8 * self.vector.itemsize:
            self.vector = self.vector.astype(np.min_scalar_type(highest))

    def add_violations(self, constraints: I64, signals: I64) -> None:
        """Count broken constraints of records that were added, each at most once a record and signal."""
        np.add.at(self.layout.violations(self.vector), (constraints, signals), 1)

    def add_scored(self, is_outlier: Mask) -> None:
        """Count which of the records that were added the half-space trees scored, and the outliers among them."""
        self.vector[SCORED] += is_outlier.size
        self.vector[OUTLIERS] += np.count_nonzero(is_outlier)

    def allow(self, kind: str, n: int) -> int:
        """How many of the next n single-record events of a kind this window may still send; it remembers them."""
        sent = self.events.get(kind, 0)
        allowed = max(0, min(n, self.layout.plan.events_per_window - sent))  # the plan may have come down meanwhile
        if allowed:
            self.events[kind] = sent + allowed
        return allowed

    def add_late(self, n: int) -> None:
        """Count records that came too late while this window was the newest."""
        self._make_room(LATE, n)
        self.vector[LATE] += n


@dataclass(slots=True)
class Cell:
    """One model version in one partition.

    Parameters
    ----------
    key
        Model and version.
    next_offset
        Records below it are in this cell already.
    windows
        Open windows by their start, milliseconds.
    online
        Online detectors; None until the first record.
    is_dirty
        Whether it differs from its last snapshot.
    """

    key: ModelKey
    next_offset: int = 0
    windows: dict[int, OpenWindow] = field(default_factory=dict)
    online: Online | None = None
    is_dirty: bool = True

    def window(self, start_ms: int, layout: Layout) -> OpenWindow:
        """The open window that starts there, made with that layout if there is none yet."""
        if start_ms not in self.windows:
            self.windows[start_ms] = OpenWindow.empty(layout)
        return self.windows[start_ms]

    def detectors(self, layout: Layout) -> Online | None:
        """Detectors for records of a layout: fresh ones at the first record of a newer baseline.

        None for records of an older baseline than the detectors have come to: they are counted, not fed.
        """
        current = self.online
        if current is not None and current.layout is layout:
            return current
        if current is not None and current.layout.baseline.effective_from_ms > layout.baseline.effective_from_ms:
            return None
        self.online = Online.fresh(layout)
        return self.online
