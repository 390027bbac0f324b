"""Stage 1: a partition's records become counts, change points and single-record events.

``step`` is the whole of it. It knows no clock, no topic and no broker: the same log gives the same outputs, however it
was cut into batches. The state that it is given is spent; go on with the one that it returns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

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
from driftline.detectors.watch import ModelKey, Watch, is_name
from driftline.detectors.windows import NO_TIME, closed_through, highest_before, is_late, window_start


@dataclass(slots=True)
class PartitionState:
    """All that stage 1 remembers of one input partition.

    Parameters
    ----------
    partition, partitions
        Which partition, of how many: the number is part of the state's identity.
    next_offset
        The first offset that is not in this state. It, not the committed offset, says where reading starts.
    highest_ms
        Highest event time seen.
    closed_ms
        End of the last window that has been closed.
    cells
        State per model version.
    """

    partition: int
    partitions: int
    next_offset: int = 0
    highest_ms: int = NO_TIME
    closed_ms: int = 0
    cells: dict[ModelKey, Cell] = field(default_factory=dict)


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


def step(state: PartitionState, batch: Batch, watch: Watch) -> tuple[PartitionState, Profiled]:
    """Take in one batch.

    Parameters
    ----------
    state
        The partition's state; spent by this call.
    batch
        Decoded records in log order; those below the state's ``next_offset`` are skipped.
    watch
        Plan and baselines.

    Returns
    -------
    The new state, whose ``next_offset`` is the batch's, and what is to be sent.
    """
    out = Profiled()
    fresh = int(batch.offsets.searchsorted(state.next_offset))
    out.skipped = fresh
    groups, closing = _grouped(state, batch, fresh, watch, out)
    for rows in groups:
        _take_in(state, rows, batch, watch, out)
    state.next_offset = max(state.next_offset, batch.next_offset)
    _close(state, closing, watch, out)
    return state, out


def provisional(state: PartitionState) -> Profiled:
    """What an idle partition tells stage 2: its open windows as they stand. The state stays as it is."""
    out = Profiled()
    for cell in state.cells.values():
        for start_ms in sorted(cell.windows):
            out.partials.append(_partial(state, cell, start_ms, state.next_offset))
    out.mark = Mark(state.partition, state.partitions, state.closed_ms, idle=True)
    return out


@dataclass(frozen=True, slots=True)
class Closing:
    """Where in a batch the watermark passed which window ends: running highest event times and their offsets."""

    highest_ms: I64
    offsets: I64

    def upto(self, due_ms: int) -> int:
        """Offset after the first record at which the highest event time reached a moment."""
        return int(self.offsets[int(self.highest_ms.searchsorted(due_ms))]) + 1


def _grouped(
    state: PartitionState, batch: Batch, fresh: int, watch: Watch, out: Profiled
) -> tuple[Iterator[Rows], Closing]:
    """Reject what can't be used, find each record's watermark, and group by model version."""
    predictions = batch.predictions[fresh:]
    offsets, event_ms = batch.offsets[fresh:], batch.event_ms[fresh:]
    keys, codes = _coded(predictions)
    known = np.array([_fault(key, state, watch) is None for key in keys], np.bool_)
    ahead = event_ms > batch.appended_ms[fresh:] + watch.plan.max_ahead_ms
    usable = known[codes] & ~ahead
    for row in (~usable).nonzero()[0].tolist():
        reason = "ahead" if ahead[row] else _fault(keys[codes[row]], state, watch) or ""
        out.rejected.append((int(offsets[row]), reason))
    if out.rejected:
        kept = usable.nonzero()[0]
        offsets, event_ms, codes = offsets[kept], event_ms[kept], codes[kept]
        predictions = [predictions[row] for row in kept.tolist()]
    before = highest_before(event_ms, state.highest_ms)
    after = np.maximum(before, event_ms)
    if after.size:
        state.highest_ms = int(after[-1])
    every = Rows(("", ""), offsets, event_ms, before, predictions)
    return _by_model(every, codes, keys), Closing(after, offsets)


def _coded(predictions: Sequence[Prediction]) -> tuple[list[ModelKey], I64]:
    """Model versions in the order of their first record, and each record's place among them, shape (n,)."""
    n = len(predictions)
    if len(set(map(attrgetter("model"), predictions))) == len(set(map(attrgetter("version"), predictions))) == 1:
        return [(predictions[0].model, predictions[0].version)], np.zeros(n, np.int64)
    keys = list(map(attrgetter("model", "version"), predictions))
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    return list(places), np.fromiter(map(places.__getitem__, keys), np.int64, n)


def _by_model(every: Rows, codes: I64, keys: list[ModelKey]) -> Iterator[Rows]:
    """Split rows by their model's code, keeping log order."""
    if len(keys) == 1 and codes.size:
        yield replace(every, key=keys[0])
        return
    order = codes.argsort(kind="stable")
    ends = np.bincount(codes, minlength=len(keys)).cumsum().tolist()
    for key, start, stop in zip(keys, [0, *ends], ends, strict=False):
        if start < stop:
            rows = order[start:stop]
            predictions = [every.predictions[row] for row in rows.tolist()]
            yield Rows(key, every.offsets[rows], every.event_ms[rows], every.highest_ms[rows], predictions)


def _fault(key: ModelKey, state: PartitionState, watch: Watch) -> str | None:
    """Why records of this model version can't be used, if so."""
    if key in watch.layouts:
        return None if key in state.cells or len(state.cells) < watch.plan.max_models else "model_cap"
    return "unknown_model" if all(map(is_name, key)) else "bad_name"


def _take_in(state: PartitionState, rows: Rows, batch: Batch, watch: Watch, out: Profiled) -> None:
    """Add records of one model version to its windows and feed its detectors."""
    plan = watch.plan
    cell = state.cells.setdefault(rows.key, Cell(rows.key))
    fresh = rows.offsets >= cell.next_offset
    out.skipped += int((~fresh).sum())
    if not fresh.any():
        return  # not changed: a snapshot of a cell that is ahead of its partition must not be dated back
    rows = rows.where(fresh)
    # What is closed stays closed, even if the plan allows for more lateness than when it was.
    passed_ms = np.maximum(rows.highest_ms, state.closed_ms + plan.lateness_ms)
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


def _close(state: PartitionState, closing: Closing, watch: Watch, out: Profiled) -> None:
    """Send the windows that the watermark has passed, and the mark that says so."""
    plan = watch.plan
    closed_ms = closed_through(state.highest_ms, plan.window_ms, plan.lateness_ms)
    if closed_ms <= state.closed_ms or not closing.offsets.size:
        return
    state.closed_ms = closed_ms
    for cell in state.cells.values():
        for start_ms in sorted(start for start in cell.windows if start + plan.window_ms <= closed_ms):
            upto = closing.upto(start_ms + plan.window_ms + plan.lateness_ms)
            out.partials.append(_partial(state, cell, start_ms, upto))
            del cell.windows[start_ms]
            cell.is_dirty = True
    out.mark = Mark(state.partition, state.partitions, closed_ms)


def _partial(state: PartitionState, cell: Cell, start_ms: int, upto: int) -> Partial:
    window = cell.windows[start_ms]
    return Partial(
        model=cell.key[0],
        version=cell.key[1],
        start_ms=start_ms,
        partition=state.partition,
        baseline=window.layout.baseline.hash,
        upto=upto,
        vector=window.vector.astype("<i8").tobytes(),
        changes=tuple(window.changes),
    )
