"""Stage 1: a partition's records become counts, change points and single-record events.

``step`` is the whole of it. It knows no clock, no topic and no broker: the same log gives the same outputs, however it
was cut into batches. The state that it is given is spent; go on with the one that it returns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

import numpy as np

from driftline.detectors.arrays import I64, Mask, little_endian
from driftline.detectors.cell import Cell
from driftline.detectors.intake import Profiled, Rows, take_in
from driftline.detectors.partials import Mark, Partial
from driftline.detectors.plan import Plan
from driftline.detectors.records import Batch, Prediction
from driftline.detectors.snapshot import Bookmark
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
    bookmark
        The last record that was read; None before the first.
    removed
        Model versions whose saved cells are to be removed with the next snapshot; never saved.
    left_out
        What of the saved cells was left out because its baseline is gone, a line each; never saved.
    """

    partition: int
    partitions: int
    next_offset: int = 0
    highest_ms: int = NO_TIME
    closed_ms: int = 0
    cells: dict[ModelKey, Cell] = field(default_factory=dict)
    bookmark: Bookmark | None = None
    removed: set[ModelKey] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)


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
    for key in watch.retired & state.cells.keys():
        out.unmatched += len(state.cells.pop(key).windows)
        state.removed.add(key)
    fresh = int(batch.offsets.searchsorted(state.next_offset))
    out.skipped = fresh
    groups, closing = _grouped(state, batch, fresh, watch, out)
    take_in(((state.cells.setdefault(rows.key, Cell(rows.key)), rows) for rows in groups), batch, watch, out)
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
    offsets, event_ms, places = batch.offsets[fresh:], batch.event_ms[fresh:], np.arange(fresh, batch.offsets.size)
    keys, codes = _coded(batch.predictions[fresh:])
    known = np.array([_fault(key, state, watch) is None for key in keys], np.bool_)
    ahead = event_ms > batch.appended_ms[fresh:] + watch.plan.max_ahead_ms
    usable = known[codes] & ~ahead
    for row in (~usable).nonzero()[0].tolist():
        reason = "ahead" if ahead[row] else _fault(keys[codes[row]], state, watch) or ""
        out.rejected.append((int(offsets[row]), reason))
    if out.rejected:
        kept = usable.nonzero()[0]
        offsets, event_ms, codes, places = offsets[kept], event_ms[kept], codes[kept], places[kept]
    before = highest_before(event_ms, state.highest_ms)
    start_ms, late = _placed(event_ms, before, state.closed_ms, watch.plan)
    after = np.maximum(before, event_ms)
    if after.size:
        state.highest_ms = int(after[-1])
    every = Rows(("", ""), offsets, event_ms, start_ms, late, places)
    return _by_model(every, codes, keys), Closing(after, offsets)


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
        vector=little_endian(window.vector),
        itemsize=window.vector.itemsize,
        changes=tuple(window.changes),
    )
