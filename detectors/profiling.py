"""Stage 1: a partition's records become counts, change points and single-record events.

``step`` is the whole of it. It knows no clock, no topic and no broker: the same log gives the same outputs, however it
was cut into batches. The state that it is given is spent; go on with the one that it returns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

import numpy as np

from driftline.detectors.arrays import I64, Mask
from driftline.detectors.cell import Cell
from driftline.detectors.intake import Profiled, Rows, take_in
from driftline.detectors.partials import Mark, Partial
from driftline.detectors.plan import Plan
from driftline.detectors.records import Batch, Flush, Prediction, is_name
from driftline.detectors.watch import ModelKey, Watch
from driftline.detectors.windows import NO_TIME, closed_through, flushed_through, is_late, reached, window_start


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
    cells
        State per model version.
    """

    partition: int
    partitions: int
    next_offset: int = 0
    highest_ms: int = NO_TIME
    closed_ms: int = 0
    cells: dict[ModelKey, Cell] = field(default_factory=dict)
    recent_ms: I64 = field(default_factory=lambda: np.empty(0, np.int64))


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
    for part, flush in batch.parts():
        _take(state, part, watch, out)
        if flush is not None:
            _flush(state, flush, watch, out)
    return state, out


def _take(state: PartitionState, batch: Batch, watch: Watch, out: Profiled) -> None:
    """Take in records among which is no flush mark."""
    fresh = int(batch.offsets.searchsorted(state.next_offset))
    out.skipped += fresh
    groups, horizon_ms, closing = _grouped(state, batch, fresh, watch, out)
    cells = ((state.cells.setdefault(rows.key, Cell(rows.key)), rows) for rows in groups)
    take_in(cells, batch, horizon_ms, watch, out)
    state.next_offset = max(state.next_offset, batch.next_offset)
    _close(state, closing, watch, out)


def _flush(state: PartitionState, flush: Flush, watch: Watch, out: Profiled) -> None:
    """Close the windows of what was published before a flush mark."""
    if flush.offset < state.next_offset:
        out.skipped += 1
        return
    out.flushes += 1
    state.next_offset = flush.offset + 1
    plan = watch.plan
    through_ms = flushed_through(flush.event_ms, flush.appended_ms, plan.window_ms, plan.lateness_ms)
    state.highest_ms = max(state.highest_ms, through_ms)
    _close(state, Closing(np.array([state.highest_ms]), np.array([flush.offset])), watch, out)


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
    """Where in a batch the watermark passed which window ends: how far event time had come after which offsets."""

    highest_ms: I64
    offsets: I64

    def upto(self, due_ms: int) -> int:
        """Offset after the first record at which event time reached a moment."""
        return int(self.offsets[int(self.highest_ms.searchsorted(due_ms))]) + 1


def _grouped(
    state: PartitionState, batch: Batch, fresh: int, watch: Watch, out: Profiled
) -> tuple[Iterator[Rows], I64 | None, Closing]:
    """Reject what can't be used, find each record's watermark, and group by model version."""
    offsets, event_ms, places = batch.offsets[fresh:], batch.event_ms[fresh:], np.arange(fresh, batch.offsets.size)
    appended_ms, by_broker = batch.appended_ms[fresh:], batch.log_append[fresh:]
    keys, codes = _coded(batch.predictions[fresh:])
    known = np.array([_fault(key, state, watch) is None for key in keys], np.bool_)
    ahead = event_ms > appended_ms + watch.plan.max_ahead_ms
    usable = known[codes] & ~ahead
    for row in (~usable).nonzero()[0].tolist():
        reason = "ahead" if ahead[row] else _fault(keys[codes[row]], state, watch) or ""
        out.rejected.append((int(offsets[row]), reason))
    if not usable.all():
        kept = usable.nonzero()[0]
        offsets, event_ms, codes, places = offsets[kept], event_ms[kept], codes[kept], places[kept]
        appended_ms, by_broker = appended_ms[kept], by_broker[kept]
    times_ms, state.recent_ms = reached(event_ms, appended_ms, by_broker, state.highest_ms, state.recent_ms)
    before_ms, after_ms = times_ms[:-1], times_ms[1:]
    start_ms, late = _placed(event_ms, before_ms, state.closed_ms, watch.plan)
    horizon_ms = _horizon(start_ms, after_ms, state.highest_ms, places, batch, watch.plan)
    state.highest_ms = int(times_ms[-1])
    every = Rows(("", ""), offsets, event_ms, start_ms, late, places)
    return _by_model(every, codes, keys), horizon_ms, Closing(after_ms, offsets)


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
            yield every.at(key, order[start:stop])


def _fault(key: ModelKey, state: PartitionState, watch: Watch) -> str | None:
    """Why records of this model version can't be used, if so."""
    if key in watch.layouts:
        return None if key in state.cells or len(state.cells) < watch.plan.max_models else "model_cap"
    return "unknown_model" if all(map(is_name, key)) else "bad_name"


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
        new_levels={signal: dict(names) for signal, names in window.new_levels.items()},
        duplicates=window.duplicates.dump(),
    )
