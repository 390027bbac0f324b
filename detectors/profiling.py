"""Stage 1: a partition's records become counts, change points and single-record events.

``step`` is the whole of it. It knows no clock, no topic and no broker: the same log gives the same outputs, however it
was cut into batches. The state that it is given is spent; go on with the one that it returns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from operator import attrgetter

import numpy as np
from msgspec import structs

from driftline.detectors.arrays import I64, Mask
from driftline.detectors.cell import Cell
from driftline.detectors.intake import Profiled, Rows, take_in
from driftline.detectors.partials import Mark, Partial
from driftline.detectors.plan import Plan
from driftline.detectors.records import Batch, Prediction
from driftline.detectors.silence import Clock, append_clock, closings, silences
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
    clock
        The append times up to there.
    cells
        State per model version.
    """

    partition: int
    partitions: int
    next_offset: int = 0
    highest_ms: int = NO_TIME
    closed_ms: int = 0
    clock: Clock = field(default_factory=Clock)
    cells: dict[ModelKey, Cell] = field(default_factory=dict)


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
    facts = _Facts()
    for piece in _pieces(state, _usable(state, batch, fresh, watch, out), batch, watch.plan):
        if piece.is_after_silence:
            _tell_silence(state, piece, batch, watch.plan, facts, out)
        groups, closing = _grouped(state, batch, piece, watch.plan)
        cells = ((state.cells.setdefault(rows.key, Cell(rows.key)), rows) for rows in groups)
        take_in(cells, batch, watch, out)
        _close(state, closing, watch, facts, out)
        state.clock = piece.clock_after(state.clock, batch)
    state.next_offset = max(state.next_offset, batch.next_offset)
    out.mark = facts.mark(state)
    return state, out


def provisional(state: PartitionState) -> Profiled:
    """What an idle partition tells stage 2: its open windows as they stand. The state stays as it is."""
    out = Profiled(partials=_open_windows(state, state.next_offset))
    out.mark = _idle_mark(state, state.clock.through_ms)
    return out


def idle_through(state: PartitionState, through_ms: int, plan: Plan) -> Profiled:
    """What follows from nothing having been appended behind the state up to an append time, after ``provisional``.

    The mark says from when on the partition was idle, if it was. The state stays as it is.
    """
    since = state.clock.idle_from(plan.idle_after_ms)
    out = Profiled()
    if since is not None and since <= through_ms:
        out.mark = _idle_mark(state, through_ms, (since, through_ms + 1))
    return out


def _idle_mark(state: PartitionState, appended_ms: int, *spans: tuple[int, int]) -> Mark:
    return Mark(
        state.partition, state.partitions, state.closed_ms, idle=True, appended_ms=appended_ms, idle_spans=spans
    )


@dataclass(frozen=True, slots=True)
class _Piece:
    """Usable records of a batch between two silences: their places in it and the append times up to each.

    ``codes`` says which of the model versions ``keys`` each belongs to.
    """

    places: I64
    codes: I64
    keys: list[ModelKey]
    clock_ms: I64
    is_after_silence: bool = False

    def clock_after(self, clock: Clock, batch: Batch) -> Clock:
        """The partition's clock after these records."""
        if not self.places.size:
            return clock
        last = self.places[-1]
        appended_ms, by_broker = int(self.clock_ms[-1]), bool(batch.log_append[last])
        return Clock(appended_ms, by_broker, int(batch.offsets[last]) + 1, clock.silences)


@dataclass(slots=True)
class _Facts:
    """What a batch's mark will say."""

    closings: list[tuple[int, int]] = field(default_factory=list)
    idle_spans: list[tuple[int, int]] = field(default_factory=list)

    def mark(self, state: PartitionState) -> Mark | None:
        """The mark; None where there is nothing to say."""
        if not self.closings and not self.idle_spans:
            return None
        return Mark(
            state.partition,
            state.partitions,
            state.closed_ms,
            appended_ms=state.clock.through_ms,
            closings=tuple(self.closings),
            idle_spans=tuple(self.idle_spans),
        )


@dataclass(frozen=True, slots=True)
class Closing:
    """Where in a batch the watermark passed which window ends: running highest event and append times, and offsets."""

    highest_ms: I64
    clock_ms: I64
    offsets: I64

    def row(self, due_ms: int) -> int:
        """The first record at which the highest event time reached a moment."""
        return int(self.highest_ms.searchsorted(due_ms))


def _usable(state: PartitionState, batch: Batch, fresh: int, watch: Watch, out: Profiled) -> _Piece:
    """Reject what can't be used; of the rest find the model versions and the append times."""
    places = np.arange(fresh, batch.offsets.size)
    keys, codes = _coded(batch.predictions[fresh:])
    known = np.array([_fault(key, state, watch) is None for key in keys], np.bool_)
    ahead = batch.event_ms[fresh:] > batch.appended_ms[fresh:] + watch.plan.max_ahead_ms
    usable = known[codes] & ~ahead
    for row in (~usable).nonzero()[0].tolist():
        reason = "ahead" if ahead[row] else _fault(keys[codes[row]], state, watch) or ""
        out.rejected.append((int(batch.offsets[fresh + row]), reason))
    if out.rejected:
        places, codes = places[usable], codes[usable]
    clock_ms = append_clock(batch.appended_ms[places], batch.log_append[places], state.clock.appended_ms)
    return _Piece(places, codes, keys, clock_ms)


def _pieces(state: PartitionState, whole: _Piece, batch: Batch, plan: Plan) -> Iterator[_Piece]:
    """Cut a batch where the partition was silent; a lone partition need not tell anybody."""
    cuts: set[int] = set()
    if state.partitions > 1:
        cuts.update(silences(whole.clock_ms, batch.log_append[whole.places], plan.idle_after_ms).tolist())
    for start, stop in pairwise([*sorted({0, *cuts}), whole.places.size]):
        clock_ms = whole.clock_ms[start + 1 : stop + 1]
        yield _Piece(whole.places[start:stop], whole.codes[start:stop], whole.keys, clock_ms, start in cuts)


def _tell_silence(state: PartitionState, piece: _Piece, batch: Batch, plan: Plan, facts: _Facts, out: Profiled) -> None:
    """Send the open windows as they stood while the partition was silent, and say when it was."""
    since, until = state.clock.idle_from(plan.idle_after_ms), int(piece.clock_ms[0])
    if since is None or since >= until:
        return
    out.partials += _open_windows(state, int(batch.offsets[piece.places[0]]))
    facts.idle_spans.append((since, until))
    state.clock = structs.replace(state.clock, silences=state.clock.silences + 1)


def _open_windows(state: PartitionState, offset: int) -> list[Partial]:
    """All open windows; a cell that is ahead of an offset after a crash has sent what it had there."""
    return [
        _partial(state, cell, start_ms, state.clock.upto, state.clock.appended_ms)
        for cell in state.cells.values()
        if cell.next_offset <= offset
        for start_ms in sorted(cell.windows)
    ]


def _grouped(state: PartitionState, batch: Batch, piece: _Piece, plan: Plan) -> tuple[Iterator[Rows], Closing]:
    """Find each record's watermark, and group by model version."""
    offsets, event_ms = batch.offsets[piece.places], batch.event_ms[piece.places]
    before = highest_before(event_ms, state.highest_ms)
    start_ms, late = _placed(event_ms, before, state.closed_ms, plan)
    after = np.maximum(before, event_ms)
    if after.size:
        state.highest_ms = int(after[-1])
    every = Rows(("", ""), offsets, event_ms, start_ms, late, piece.places)
    return _by_model(every, piece.codes, piece.keys), Closing(after, piece.clock_ms, offsets)


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


def _close(state: PartitionState, closing: Closing, watch: Watch, facts: _Facts, out: Profiled) -> None:
    """Send the windows that the watermark has passed, and note when that was."""
    plan = watch.plan
    closed_ms = closed_through(state.highest_ms, plan.window_ms, plan.lateness_ms)
    if closed_ms <= state.closed_ms or not closing.offsets.size:
        return
    closed_after = window_start(np.maximum(closing.highest_ms - plan.lateness_ms, 0), plan.window_ms)
    facts.closings += closings(state.closed_ms, closed_after, closing.clock_ms)
    state.closed_ms, state.clock = closed_ms, structs.replace(state.clock, silences=0)
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
        vector=window.vector.astype("<i8").tobytes(),
        changes=tuple(window.changes),
        appended_ms=appended_ms,
    )
