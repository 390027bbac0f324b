"""Stage 1: a partition's records become counts, change points and single-record events.

``step`` is the whole of it. It knows no clock, no topic and no broker: the same log gives the same outputs, however it
was cut into batches. It takes ownership of the state and changes it; use the returned state.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from msgspec import structs

from driftline.detectors.arrays import I64, Mask, little_endian
from driftline.detectors.documents.bookmark import Bookmark
from driftline.detectors.documents.partials import Mark, Partial
from driftline.detectors.documents.predictions import Batch, Flush
from driftline.detectors.layout.watch import ModelKey, Watch
from driftline.detectors.names import is_name
from driftline.detectors.plan import Plan
from driftline.detectors.tumbling import NO_TIME, closed_through, flushed_through, is_late, reached, window_start
from driftline.detectors.windows.ingest import Profiled, take_in
from driftline.detectors.windows.model_state import Cell
from driftline.detectors.windows.pieces import Closing, Facts, Piece
from driftline.detectors.windows.rows import Rows, by_model, coded
from driftline.detectors.windows.silence import Clock, append_clock, closings


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
        How far event time has come: see ``windows.reached``.
    recent_ms
        Event times of the last records whose timestamps were their producers'.
    closed_ms
        End of the last window that has been closed.
    clock
        The append times up to there.
    cells
        State per model version.
    bookmark
        The last record that was read; None before the first.
    removed
        Model versions whose saved cells are to be removed with the next snapshot; never saved.
    left_out
        What of the saved cells was left out because its baseline is gone: a line each, and how many open windows it
        was; never saved.
    """

    partition: int
    partitions: int
    next_offset: int = 0
    highest_ms: int = NO_TIME
    closed_ms: int = 0
    clock: Clock = field(default_factory=Clock)
    cells: dict[ModelKey, Cell] = field(default_factory=dict)
    recent_ms: I64 = field(default_factory=lambda: np.empty(0, np.int64))
    bookmark: Bookmark | None = None
    removed: set[ModelKey] = field(default_factory=set)
    left_out: dict[str, int] = field(default_factory=dict)


def step(state: PartitionState, batch: Batch, watch: Watch) -> tuple[PartitionState, Profiled]:
    """Take in one batch.

    Parameters
    ----------
    state
        The partition's state, which this call changes.
    batch
        Decoded records in log order; those below the state's ``next_offset`` are skipped.
    watch
        Plan and baselines.

    Returns
    -------
    The new state, whose ``next_offset`` is the batch's, and what is to be sent.
    """
    out, facts = Profiled(), Facts()
    for key in watch.retired & state.cells.keys():
        out.unmatched += len(state.cells.pop(key).windows)
        state.removed.add(key)
    for part, flush in batch.parts():
        _take(state, part, watch, facts, out)
        if flush is not None:
            _flush(state, flush, watch, facts, out)
    out.mark = facts.mark(state.partition, state.partitions, state.closed_ms, state.clock)
    return state, out


def _take(state: PartitionState, batch: Batch, watch: Watch, facts: Facts, out: Profiled) -> None:
    """Take in records among which is no flush mark."""
    fresh = int(batch.offsets.searchsorted(state.next_offset))
    out.skipped += fresh
    usable, is_alone = _usable(state, batch, fresh, watch, out), state.partitions == 1  # so it delays nobody
    for piece in [usable.uncut()] if is_alone else usable.cut(batch, state.clock, watch.plan):
        if piece.places.size and not is_alone:
            first_ms = int(piece.clock_ms[0])
            _tell_silence(state, first_ms, int(batch.offsets[piece.places[0]]), watch.plan, facts, out)
            if piece.is_after_silence:
                state.clock = structs.replace(state.clock, since_ms=first_ms)
        groups, horizon_ms, closing = _grouped(state, batch, piece, watch.plan)
        cells = ((state.cells.setdefault(rows.key, Cell(rows.key)), rows) for rows in groups)
        take_in(cells, batch, horizon_ms, watch, out)
        _close(state, closing, watch, facts, out)
        state.clock = piece.clock_after(state.clock, batch, watch.plan.window_ms)
    state.next_offset = max(state.next_offset, batch.next_offset)


def _flush(state: PartitionState, flush: Flush, watch: Watch, facts: Facts, out: Profiled) -> None:
    """Close the windows of what was published before a flush mark."""
    if flush.offset < state.next_offset:
        out.skipped += 1
        return
    out.flushes += 1
    plan, clock = watch.plan, state.clock
    appended_ms = max(clock.appended_ms, flush.appended_ms) if flush.log_append else clock.appended_ms
    if flush.log_append and state.partitions > 1:
        _tell_silence(state, appended_ms, flush.offset, plan, facts, out)
        if appended_ms - clock.appended_ms > plan.idle_after_ms:
            state.clock = structs.replace(state.clock, since_ms=appended_ms)
    state.next_offset = flush.offset + 1
    through_ms = flushed_through(flush.event_ms, flush.appended_ms, plan.window_ms, plan.lateness_ms)
    state.highest_ms = max(state.highest_ms, through_ms)
    _close(
        state,
        Closing(np.array([state.highest_ms]), np.array([appended_ms]), np.array([flush.offset])),
        watch,
        facts,
        out,
    )
    clock = state.clock
    stood = clock.passed(np.array([appended_ms]), plan.window_ms)
    state.clock = Clock(appended_ms, flush.log_append, flush.offset + 1, clock.silences, clock.since_ms, stood)


def provisional(state: PartitionState) -> Profiled:
    """What an idle partition tells stage 2: its open windows as they stand. The state stays as it is."""
    out = Profiled(partials=_open_windows(state, state.next_offset))
    out.mark = _idle_mark(state, state.clock.through_ms)
    return out


def idle_through(state: PartitionState, through_ms: int, plan: Plan) -> Profiled:
    """What follows from nothing having been appended behind the state up to an append time, after ``provisional``.

    The mark says from when on the partition was idle, if it was. The state stays as it is.
    """
    since = state.clock.idle_from(plan)
    out = Profiled()
    if since is not None and since <= through_ms:
        out.mark = _idle_mark(state, through_ms, (since, through_ms + 1))
    return out


def _idle_mark(state: PartitionState, appended_ms: int, *spans: tuple[int, int]) -> Mark:
    return Mark(
        state.partition, state.partitions, state.closed_ms, idle=True, appended_ms=appended_ms, idle_spans=spans
    )


def _usable(state: PartitionState, batch: Batch, fresh: int, watch: Watch, out: Profiled) -> Piece:
    """Reject what can't be used; of the rest find the model versions and the append times."""
    places = np.arange(fresh, batch.offsets.size)
    keys, codes = coded(batch.predictions[fresh:])
    known = np.array([_fault(key, watch) is None for key in keys], np.bool_)
    ahead = batch.event_ms[fresh:] > batch.appended_ms[fresh:] + watch.plan.max_ahead_ms
    usable = known[codes] & ~ahead
    for row in (~usable).nonzero()[0].tolist():
        reason = "ahead" if ahead[row] else _fault(keys[codes[row]], watch) or ""
        out.rejected.append((int(batch.offsets[fresh + row]), reason))
    if out.rejected:
        places, codes = places[usable], codes[usable]
    clock_ms = append_clock(batch.appended_ms[places], batch.log_append[places], state.clock.appended_ms)
    return Piece(places, codes, keys, clock_ms)


def _tell_silence(state: PartitionState, until_ms: int, offset: int, plan: Plan, facts: Facts, out: Profiled) -> None:
    """Send the open windows as they stood while the partition was idle, if it was, and say when."""
    since_ms = state.clock.idle_from(plan)
    if since_ms is None or since_ms >= until_ms:
        return
    out.partials += _open_windows(state, offset)
    facts.idle_spans.append((since_ms, until_ms))
    state.clock = structs.replace(state.clock, silences=state.clock.silences + 1)


def _open_windows(state: PartitionState, offset: int) -> list[Partial]:
    """All open windows; a cell that is ahead of an offset after a crash has sent what it had there."""
    return [
        _partial(state, cell, start_ms, state.clock.upto, state.clock.appended_ms)
        for cell in state.cells.values()
        if cell.next_offset <= offset
        for start_ms in sorted(cell.windows)
    ]


def _grouped(
    state: PartitionState, batch: Batch, piece: Piece, plan: Plan
) -> tuple[Iterator[Rows], I64 | None, Closing]:
    """Find each record's watermark, and group by model version."""
    places = piece.places
    offsets, event_ms, appended_ms = batch.offsets[places], batch.event_ms[places], batch.appended_ms[places]
    by_broker = batch.log_append[places]
    times_ms, state.recent_ms = reached(event_ms, appended_ms, by_broker, state.highest_ms, state.recent_ms)
    before_ms, after_ms = times_ms[:-1], times_ms[1:]
    start_ms, late = _placed(event_ms, before_ms, state.closed_ms, plan)
    horizon_ms = _horizon(start_ms, after_ms, state.highest_ms, places, batch, plan)
    state.highest_ms = int(times_ms[-1])
    every = Rows(("", ""), offsets, event_ms, start_ms, late, places)
    return by_model(every, piece.codes, piece.keys), horizon_ms, Closing(after_ms, piece.clock_ms, offsets)


def _horizon(start_ms: I64, reached_ms: I64, highest_ms: int, places: I64, batch: Batch, plan: Plan) -> I64 | None:
    """Per record of the batch, start of the last window that is not far ahead of event time; None if none is farther.

    Half of the windows that may be open at once lie so near; of farther ones a cell opens as many as the other half.
    """
    near_ms = plan.max_open_windows // 2 * plan.window_ms
    if not start_ms.size or start_ms.max() <= highest_ms - highest_ms % plan.window_ms + near_ms:
        return None
    found = np.zeros(batch.offsets.size, np.int64)
    found[places] = window_start(reached_ms, plan.window_ms) + near_ms
    return found


def _placed(event_ms: I64, highest_ms: I64, closed_ms: int, plan: Plan) -> tuple[I64, Mask]:
    """Start of the window that each record is counted in, and whether it is counted as late there.

    A late record is told to the window that was newest when it came: its own is closed for good.
    """
    start_ms = window_start(event_ms, plan.window_ms)
    # What is closed stays closed, even if the plan allows for more lateness than when it was.
    late = is_late(start_ms, np.maximum(highest_ms, closed_ms + plan.lateness_ms), plan.window_ms, plan.lateness_ms)
    if late.any():
        start_ms = np.where(late, window_start(highest_ms, plan.window_ms), start_ms)
    return start_ms, late


def _fault(key: ModelKey, watch: Watch) -> str | None:
    """Why records of this model version can't be used, if so."""
    if key in watch.layouts:
        return None
    return "unknown_model" if all(map(is_name, key)) else "bad_name"


def _close(state: PartitionState, closing: Closing, watch: Watch, facts: Facts, out: Profiled) -> None:
    """Send the windows that the watermark has passed, and note when that was."""
    plan = watch.plan
    closed_ms = closed_through(state.highest_ms, plan.window_ms, plan.lateness_ms)
    if closed_ms <= state.closed_ms or not closing.offsets.size:
        return
    closed_after = window_start(np.maximum(closing.highest_ms - plan.lateness_ms, 0), plan.window_ms)
    witness_ms = state.clock.since_ms + plan.idle_after_ms
    facts.closings += closings(state.closed_ms, closed_after, closing.clock_ms, witness_ms)
    state.closed_ms = closed_ms
    last_ms = int(closing.clock_ms[closed_after.searchsorted(closed_after[-1])])
    state.clock = structs.replace(state.clock, appended_ms=last_ms, silences=0, stood=0)
    for cell in state.cells.values():
        for start_ms in sorted(start for start in cell.windows if start + plan.window_ms <= closed_ms):
            row = closing.row(start_ms + plan.window_ms + plan.lateness_ms)
            upto, appended_ms = int(closing.offsets[row]) + 1, int(closing.clock_ms[row])
            out.partials.append(_partial(state, cell, start_ms, upto, appended_ms))
            del cell.windows[start_ms]
            cell.is_dirty = True


def _partial(state: PartitionState, cell: Cell, start_ms: int, upto: int, appended_ms: int) -> Partial:
    window = cell.windows[start_ms]
    return Partial(
        model=cell.key[0],
        version=cell.key[1],
        start_ms=start_ms,
        partition=state.partition,
        baseline=window.layout.baseline.hash,
        upto=upto,
        vector=little_endian(window.vector),
        itemsize=window.vector.itemsize,
        changes=tuple(window.changes),
        new_levels={signal: dict(names) for signal, names in window.new_levels.items()},
        duplicates=window.duplicates.dump(),
        appended_ms=appended_ms,
    )
