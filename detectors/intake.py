"""One model version's records go into its cell: windows counted, detectors fed, single-record alerts made."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from driftline.detectors.alerts import Alert, Origin, Window
from driftline.detectors.arrays import F64, I64, Mask
from driftline.detectors.cell import Cell, OpenWindow
from driftline.detectors.columns import Columns, columns
from driftline.detectors.events import Record, Violations, constraint_event, outlier_event, violations
from driftline.detectors.layout import CONSTRAINTS, Layout
from driftline.detectors.online import Change, Online
from driftline.detectors.partials import ChangePoint, Mark, Partial
from driftline.detectors.records import Batch, Prediction
from driftline.detectors.watch import ModelKey, Watch
from driftline.detectors.windows import is_late, window_start


@dataclass(slots=True)
class Profiled:
    """Outputs of one step: to be sent, then the state to be saved, then the offset to be committed.

    Parameters
    ----------
    partials, mark
        For stage 2, the mark after the partials.
    events
        Single-record alerts, in log order per model version.
    rejected
        (offset, reason) of records that can't be used.
    accepted, late, skipped
        How the others fared; ``skipped`` were in the state already.
    """

    partials: list[Partial] = field(default_factory=list)
    mark: Mark | None = None
    events: list[Alert] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)
    accepted: int = 0
    late: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Rows:
    """Records of one model version in a batch, in log order."""

    key: ModelKey
    offsets: I64
    event_ms: I64
    highest_ms: I64
    predictions: list[Prediction]

    def where(self, mask: Mask) -> "Rows":
        """The rows at which a mask of shape (n,) holds."""
        kept = mask.nonzero()[0]
        if kept.size == mask.size:
            return self
        predictions = [self.predictions[row] for row in kept.tolist()]
        return Rows(self.key, self.offsets[kept], self.event_ms[kept], self.highest_ms[kept], predictions)


def take_in(cell: Cell, rows: Rows, batch: Batch, closed_ms: int, watch: Watch, out: Profiled) -> None:
    """Add records of one model version to its windows and feed its detectors."""
    plan = watch.plan
    fresh = rows.offsets >= cell.next_offset
    out.skipped += int((~fresh).sum())
    if not fresh.any():
        return  # not changed: a snapshot of a cell that is ahead of its partition must not be dated back
    rows = rows.where(fresh)
    # What is closed stays closed, even if the plan allows for more lateness than when it was.
    passed_ms = np.maximum(rows.highest_ms, closed_ms + plan.lateness_ms)
    late = is_late(rows.event_ms, passed_ms, plan.window_ms, plan.lateness_ms)
    # A late record is told to the window that was newest when it came: its own is closed for good.
    start_ms = window_start(np.where(late, rows.highest_ms, rows.event_ms), plan.window_ms)
    starts = np.unique(start_ms).tolist()
    layouts = {start: _layout(cell, start, watch) for start in starts}
    for start in starts:
        here = start_ms == start
        layout = layouts[start]
        if layout is None:
            out.rejected += [(offset, "no_baseline_yet") for offset in rows.offsets[here].tolist()]
        elif n_late := int((late & here).sum()):
            cell.window(start, layout).add_late(n_late)
            out.late += n_late
    for layout, fed, unfed in _by_layout(start_ms, ~late, layouts):
        online = cell.detectors(layout) if fed.any() else None
        for chosen, detectors in ((fed, online), (unfed, None)):
            if chosen.any():
                _observe(cell, layout, rows.where(chosen), detectors, batch, out)
    cell.next_offset = max(cell.next_offset, batch.next_offset)
    cell.is_dirty = True


def _layout(cell: Cell, start_ms: int, watch: Watch) -> Layout | None:
    """An open window keeps its bins; a new one takes the newest baseline that is effective at its start."""
    window = cell.windows.get(start_ms)
    return window.layout if window is not None else watch.effective(cell.key, start_ms)


def _by_layout(start_ms: I64, timely: Mask, layouts: dict[int, Layout | None]) -> Iterator[tuple[Layout, Mask, Mask]]:
    """Timely rows per layout, oldest first, in two masks: those that the detectors are fed, and the others.

    Detectors never go back to an older baseline: its records are fed up to the first record of a newer one.
    """
    distinct = {id(layout): layout for layout in layouts.values() if layout is not None}.values()
    ordered = sorted(distinct, key=lambda layout: layout.baseline.effective_from_ms)
    chosen = [timely & np.isin(start_ms, [start for start in layouts if layouts[start] is one]) for one in ordered]
    for place, layout in enumerate(ordered):
        newer = np.logical_or.reduce([np.zeros_like(timely), *chosen[place + 1 :]])
        passed = np.logical_or.accumulate(newer)
        yield layout, chosen[place] & ~passed, chosen[place] & passed


def _observe(cell: Cell, layout: Layout, rows: Rows, online: Online | None, batch: Batch, out: Profiled) -> None:
    """Count timely records that share a layout, and feed the detectors, in log order."""
    plan = layout.plan
    seen = columns(rows.predictions, layout)
    broken = violations(seen, layout)
    changes = online.feed(seen) if online else []
    p_values = online.outlier_p_values(seen) if online else None
    start_ms = window_start(rows.event_ms, plan.window_ms)
    for start in np.unique(start_ms).tolist():
        here = start_ms == start
        window = cell.window(start, layout)
        window.add(seen.cells if here.all() else seen.cells[:, here])
        in_window = here[broken.rows]
        window.add_violations(broken.constraints[in_window], broken.signals[in_window])
        window.changes += [_change_point(each, rows, batch.partition) for each in changes if here[each.row]]
        if p_values is not None:
            window.add_scored(p_values[here] <= plan.outlier_share)
        records = _Records(rows, batch, Window(start, start + plan.window_ms))
        out.events += _events(window, records, seen, Violations(*(each[in_window] for each in broken)))
        if p_values is not None:
            out.events += _outlier_events(window, records, np.where(here, p_values, 1.0))
    out.accepted += rows.offsets.size


def _change_point(change: Change, rows: Rows, partition: int) -> ChangePoint:
    offset, event_ms = int(rows.offsets[change.row]), int(rows.event_ms[change.row])
    return ChangePoint(change.signal, change.detector, partition, offset, event_ms, change.before, change.after)


@dataclass(frozen=True, slots=True)
class _Records:
    """Rows of one window, by which an event finds its record."""

    rows: Rows
    batch: Batch
    window: Window

    def __getitem__(self, row: int) -> Record:
        origin = Origin(self.batch.topic, self.batch.partition, int(self.rows.offsets[row]))
        return Record(origin, self.window, int(self.rows.event_ms[row]))


def _events(window: OpenWindow, records: _Records, seen: Columns, broken: Violations) -> Iterator[Alert]:
    """Alerts for the first broken constraints of a window."""
    layout = window.layout
    for place in range(window.allow("data_quality", broken.rows.size)):
        row, constraint, signal = (int(each[place]) for each in broken)
        value = float(seen.numeric[signal, row]) if signal < len(layout.numeric) else np.inf
        yield constraint_event(records[row], layout, CONSTRAINTS[constraint], layout.signals[signal], value)


def _outlier_events(window: OpenWindow, records: _Records, p_values: F64) -> Iterator[Alert]:
    """Alerts for the first records of a window that are unlike all of the baseline."""
    layout = window.layout
    threshold = layout.plan.threshold("half_space_trees", layout.baseline.model)
    found = (p_values <= (threshold or 0.0)).nonzero()[0]
    for row in found[: window.allow("outlier", found.size)].tolist():
        yield outlier_event(records[row], layout, float(p_values[row]))
