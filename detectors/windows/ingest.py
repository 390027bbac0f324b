"""One model version's records go into its cell: windows counted, detectors fed, single-record alerts made."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from driftline.detectors.arrays import F64, I64, Mask
from driftline.detectors.documents import new_levels
from driftline.detectors.documents.alerts import Alert, Origin, Window
from driftline.detectors.documents.duplicates import id_hashes, record_keys
from driftline.detectors.documents.partials import ChangePoint, Mark, Partial, bounded
from driftline.detectors.documents.predictions import Batch, Prediction
from driftline.detectors.layout.columns import Chosen, Columns, columns_of
from driftline.detectors.layout.constraints import CONSTRAINTS
from driftline.detectors.layout.values import level_of
from driftline.detectors.layout.vector_layout import Layout, N
from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import Plan
from driftline.detectors.windows.events import (
    Record,
    Violations,
    armed,
    constraint_event,
    joint_event,
    outlier_event,
    violations,
    worth_telling,
)
from driftline.detectors.windows.model_state import Cell, OpenWindow
from driftline.detectors.windows.online_detectors import Change, Online, outlier_scores
from driftline.detectors.windows.rows import Rows


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
    accepted, late, flushes, skipped
        How the others fared; ``flushes`` were flush marks, ``skipped`` were in the state already.
    unmatched
        Open windows of model versions whose baseline was retired.
    """

    partials: list[Partial] = field(default_factory=list)
    mark: Mark | None = None
    events: list[Alert] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)
    accepted: int = 0
    late: int = 0
    flushes: int = 0
    skipped: int = 0
    unmatched: int = 0


@dataclass(frozen=True, slots=True)
class Observed:
    """Timely records of one model version that share a layout, on their way into windows and detectors.

    Parameters
    ----------
    cell, layout, rows
        Where they go, by which bins, and the records.
    online
        The detectors that they are fed to; None for none.
    """

    cell: Cell
    layout: Layout
    rows: Rows
    online: Online | None


def take_in(
    groups: Iterable[tuple[Cell, Rows]], batch: Batch, horizon_ms: I64 | None, watch: Watch, out: Profiled
) -> None:
    """Add each model version's records to its windows and feed its detectors.

    ``horizon_ms`` is, per record of the batch, the start of the last window that is not far ahead; None if none is.
    """
    observed = [each for cell, rows in groups for each in _observed(cell, rows, horizon_ms, watch, out)]
    seen = columns_of(batch.predictions, [Chosen(each.rows.places, each.layout) for each in observed])
    scores = outlier_scores([(each.online, own) for each, own in zip(observed, seen, strict=True)])
    hashes = id_hashes(batch.predictions)
    for each, own, scored in zip(observed, seen, scores, strict=True):
        _count(each, own, scored, hashes, batch, out)
        _name_new_levels(each, own, batch.predictions)


def _observed(cell: Cell, rows: Rows, horizon_ms: I64 | None, watch: Watch, out: Profiled) -> list[Observed]:
    """Select one model version's timely records; count and reject the others."""
    fresh = rows.where(rows.offsets >= cell.next_offset)
    out.skipped += rows.places.size - fresh.places.size
    if not fresh.places.size:
        return []  # not changed: a snapshot of a cell that is ahead of its partition must not be dated back
    # Not the batch's: more of it may follow.
    cell.next_offset, cell.is_dirty = max(cell.next_offset, int(fresh.offsets[-1]) + 1), True
    layouts = {start: _layout(cell, start, watch) for start in fresh.starts}
    _reject_unwatched(fresh, layouts, out)
    if horizon_ms is not None:
        fresh = _within_bounds(cell, fresh, horizon_ms, layouts, watch.plan, out)
    if fresh.is_late.any():
        _count_late(cell, fresh.where(fresh.is_late), layouts, out)
    return [
        Observed(cell, layout, chosen, cell.detectors(layout) if is_fed else None)
        for layout, chosen, is_fed in _by_layout(fresh.where(~fresh.is_late), layouts)
        if chosen.places.size
    ]


def _layout(cell: Cell, start_ms: int, watch: Watch) -> Layout | None:
    """An open window keeps its bins; a new one takes the newest baseline that is effective at its start."""
    window = cell.windows.get(start_ms)
    return window.layout if window is not None else watch.effective(cell.key, start_ms)


def _reject_unwatched(rows: Rows, layouts: Mapping[int, Layout | None], out: Profiled) -> None:
    for start in [start for start, layout in layouts.items() if layout is None]:
        out.rejected += [(offset, "no_baseline_yet") for offset in rows.offsets[rows.start_ms == start].tolist()]


def _within_bounds(
    cell: Cell, rows: Rows, horizon_ms: I64, layouts: Mapping[int, Layout | None], plan: Plan, out: Profiled
) -> Rows:
    """Reject records that would open more windows far ahead of event time than the plan allows.

    A window is far ahead where few clocks believe in it, or after a silence, until enough records confirm that time has
    gone on. It is kept: it may be right. Were there no bound, a clock that shows any time could open ever more.
    """
    horizon_ms = horizon_ms[rows.places]
    most = plan.max_open_windows - plan.max_open_windows // 2
    ahead, kept = set(cell.windows), np.ones(rows.places.size, np.bool_)
    for row in (rows.start_ms > horizon_ms).nonzero()[0].tolist():
        start, horizon = int(rows.start_ms[row]), int(horizon_ms[row])
        if start in ahead or layouts[start] is None:
            continue
        if sum(each > horizon for each in ahead) < most:
            ahead.add(start)
        else:
            kept[row] = False
    out.rejected += [(offset, "ahead") for offset in rows.offsets[~kept].tolist()]
    return rows.where(kept)


def _count_late(cell: Cell, late: Rows, layouts: Mapping[int, Layout | None], out: Profiled) -> None:
    for start, n in Counter(late.start_ms.tolist()).items():
        layout = layouts[start]
        if layout is not None:
            cell.window(start, layout).add_late(n)
            out.late += n


def _by_layout(timely: Rows, layouts: Mapping[int, Layout | None]) -> Iterator[tuple[Layout, Rows, bool]]:
    """Timely rows per layout, oldest first, and whether the detectors are fed them.

    Detectors never go back to an older baseline: its records are fed up to the first record of a newer one.
    """
    distinct = {id(layout): layout for layout in layouts.values() if layout is not None}.values()
    chosen: list[tuple[Layout, Rows, bool]] = []
    newer = None
    for layout in sorted(distinct, key=lambda layout: layout.baseline.effective_from_ms, reverse=True):
        own = [start for start in layouts if layouts[start] is layout]
        mine = timely.start_ms == own[0] if len(own) == 1 else np.isin(timely.start_ms, own)
        if newer is None:
            chosen.append((layout, timely.where(mine), True))
            newer = mine
        else:
            passed = np.logical_or.accumulate(newer)
            chosen += [(layout, timely.where(mine & passed), False), (layout, timely.where(mine & ~passed), True)]
            newer |= mine
    return reversed(chosen)


def _count(each: Observed, seen: Columns, scores: F64 | None, hashes: I64, batch: Batch, out: Profiled) -> None:
    """Count records in their windows and feed them to the detectors of change, in log order."""
    cell, layout, rows = each.cell, each.layout, each.rows
    broken = violations(seen, layout)
    changes = each.online.feed(seen) if each.online else []
    joint = layout.joint.found(layout.joint_rows, seen.numeric, seen.scores, seen.finite) if layout.joint else {}
    keys = record_keys(hashes[rows.places], seen.numeric, seen.cells[len(layout.numeric) :])
    starts = rows.starts
    for start in starts:
        here = rows.start_ms == start
        window = cell.window(start, layout)
        records = _Records(rows, batch, Window(start, start + layout.plan.window_ms))
        in_window = here[broken.rows]
        own = Violations(*(part[in_window] for part in broken))
        if own.rows.size:
            out.events += _events(window, records, seen, own, here)
        window.add(seen.cells if len(starts) == 1 else seen.cells[:, here])
        window.add_violations(own.constraints, own.signals)
        window.duplicates.add(keys[here])
        if changes:
            points = [_change_point(change, rows, batch.partition) for change in changes if here[change.row]]
            window.changes = list(bounded([*window.changes, *points]))
        if scores is not None:
            assert layout.outlier_ranks is not None
            window.add_scored(layout.outlier_ranks.are_outliers(scores[here]))
        if joint or scores is not None:
            out.events += _outlier_events(window, records, scores, joint, here)
    out.accepted += rows.offsets.size


def _name_new_levels(each: Observed, seen: Columns, predictions: Sequence[Prediction]) -> None:
    """Tell the windows the names of levels that the baseline never had, in log order; none of a sensitive signal."""
    k = len(each.layout.numeric)
    unseen = seen.cells[k:] == each.layout.missing_cell[k:, None] - 1
    if each.layout.sensitive:
        unseen[[name in each.layout.sensitive for name in each.layout.categorical]] = False
    if not unseen.any():
        return
    rows, signals = unseen.T.nonzero()
    starts, names = each.rows.start_ms[rows], each.layout.categorical
    levels = [
        (names[signal], level_of(predictions[place], names[signal]))
        for place, signal in zip(each.rows.places[rows].tolist(), signals.tolist(), strict=True)
    ]
    for start in set(starts.tolist()):
        own = (starts == start).nonzero()[0].tolist()
        new_levels.count(each.cell.windows[start].new_levels, [levels[place] for place in own])


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

    def level(self, row: int, signal: str) -> str:
        """Level of one row's categorical signal."""
        return level_of(self.batch.predictions[int(self.rows.places[row])], signal)


def _events(window: OpenWindow, records: _Records, seen: Columns, broken: Violations, here: Mask) -> Iterator[Alert]:
    """Alerts for the first values of a window that are worth one; the window does not hold these records yet."""
    layout = window.layout
    if broken.rows.size:
        broken = armed(broken, layout)
    before = layout.violations(window.vector).astype(np.int64)
    told = worth_telling(broken, seen, layout, before, int(window.vector[N]) + here.cumsum())
    for place in range(window.allow("data_quality", told.rows.size)):
        row, constraint, signal = (int(each[place]) for each in told)
        name = layout.signals[signal]
        value = float(seen.numeric[signal, row]) if signal < len(layout.numeric) else records.level(row, name)
        yield constraint_event(records[row], layout, CONSTRAINTS[constraint], name, value)


def _outlier_events(
    window: OpenWindow, records: _Records, scores: F64 | None, joint: dict[int, float], here: Mask
) -> Iterator[Alert]:
    """Alerts for the first records of a window that are unlike all of the baseline, one a record."""
    layout = window.layout
    by_trees = set() if scores is None else set((here & (scores >= layout.alerting_score)).nonzero()[0].tolist())
    found = sorted(by_trees | {row for row in joint if here[row]})
    for row in found[: window.allow("outlier", len(found))]:
        if scores is not None and row in by_trees:
            yield outlier_event(records[row], layout, float(scores[row]))
        else:
            yield joint_event(records[row], layout, joint[row])
