"""Stage 2: partitions' partial counts become verdicts and alerts.

``step`` knows no clock. When a window's verdict is final depends on the log alone (:mod:`.finality`). While partitions are
idle, windows are judged provisionally from what there is; provisional verdicts and alerts are marked as such and leave no
trace in the history that final ones are decided by.
"""

import functools
import sys
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import groupby, takewhile
from operator import itemgetter

from driftline.detectors.documents.alerts import Alert
from driftline.detectors.documents.partials import Mark, Partial
from driftline.detectors.layout.watch import Watch
from driftline.detectors.verdicts import finality
from driftline.detectors.verdicts.finality import EVER, Moment
from driftline.detectors.verdicts.fleet import FleetState, Judged, ModelState
from driftline.detectors.verdicts.merging import beyond_bounds, is_ready, verdicts_on
from driftline.detectors.verdicts.transitions import LastWindow, alerts_of, corrections, no_data, retirement

Item = Partial | Mark


def step(
    state: FleetState, items: Iterable[tuple[int, Item]], watch: Watch, most: int = sys.maxsize
) -> tuple[FleetState, Judged]:
    """Take in partials and marks, each with its offset, in log order; those below ``next_offset`` are skipped.

    It takes ownership of ``state`` and changes it; use the returned state. No more final windows than ``most`` are
    judged: while :func:`is_due`, further steps judge the rest, in the same order.
    """
    out = Judged(room=most)
    touched = False
    _retire(state, watch, out)
    _finish(state, watch, out)
    for offset, item in items:
        if offset < state.next_offset:
            continue
        state.next_offset = offset + 1
        if isinstance(item, Mark):
            _take_mark(state, item, watch, out)
        else:
            _take_partial(state, offset, item, watch, out)
        touched = True
    if touched and any(mark.idle for mark in state.marks.values()):
        _judge_provisionally(state, watch, out)
    return state, out


def _take_partial(state: FleetState, offset: int, partial: Partial, watch: Watch, out: Judged) -> None:
    """Keep the newest partial of a window and partition. A window that is final takes none: it is a repetition."""
    key, end_ms = (partial.model, partial.version), partial.start_ms + watch.plan.window_ms
    mark = state.marks.get(partial.partition)
    if end_ms <= state.final_ms:
        out.stale += 1
        if mark is None or end_ms <= mark.closed_ms:
            return  # a repetition
    if key in watch.retired:
        out.unmatched += 1
        return
    model = state.models.setdefault(key, ModelState(key))
    if offset < model.next_offset:
        return
    model.next_offset, model.is_dirty = offset + 1, True
    if end_ms <= state.final_ms:
        out.missed += model.earlier.missed(partial)
    else:
        model.keep(partial)


def _take_mark(state: FleetState, mark: Mark, watch: Watch, out: Judged) -> None:
    """Merge a partition's mark, and settle the windows that become final by it."""
    state.marks[mark.partition] = finality.merged(state.marks.get(mark.partition), mark)
    moments = finality.moments(state.marks, state.final_ms)
    dragged_ms = finality.dragged_ms(state.marks, watch.plan.max_provisional_windows * watch.plan.window_ms)
    if dragged_ms > (moments[-1].end_ms if moments else state.final_ms):
        moments.append(Moment(dragged_ms, EVER))
    if moments:
        _settle(state, moments, watch, out)
        _finish(state, watch, out)
    past = Moment(state.final_ms, finality.undecided_from(state.marks, state.final_ms))
    state.marks = {place: finality.without(each, past) for place, each in state.marks.items()}
    for model in state.models.values():
        model.is_dirty |= model.earlier.prune(state.marks[mark.partition])


def _settle(state: FleetState, moments: Sequence[Moment], watch: Watch, out: Judged) -> None:
    """Windows become final: each keeps the records that were appended up to its moment, whenever it is judged."""
    window_ms, past_ms = watch.plan.window_ms, state.final_ms
    state.final_ms = moments[-1].end_ms
    state.marks = {place: finality.without(each, moments[-1]) for place, each in state.marks.items()}
    for model, start_ms in _windows(state, past_ms - window_ms, state.final_ms - window_ms):
        moment = moments[bisect_left(moments, (start_ms + window_ms,))]
        out.missed += model.settle(start_ms, moment.appended_ms)
    closed_ms = {place: each.closed_ms for place, each in state.marks.items()}
    for model in state.models.values():
        model.earlier.forget(closed_ms, window_ms)


def _windows(state: FleetState, first_ms: int, last_ms: int | None) -> list[tuple[ModelState, int]]:
    """Windows that start after a moment, and at another or before it, None for all, by model version and start."""
    models = [state.models[key] for key in sorted(state.models)]
    return [
        (model, start)
        for model in models
        for start in sorted(model.windows)
        if first_ms < start and (last_ms is None or start <= last_ms)
    ]


def is_due(state: FleetState, watch: Watch) -> bool:
    """Whether a step has something to say without anything new: more is final, or the watch has changed."""
    if watch.retired & state.models.keys():
        return True
    first = ((model, min(model.windows)) for model in state.models.values() if model.windows)
    last_ms = state.final_ms - watch.plan.window_ms
    return any(start <= last_ms and _is_ready(state, model, watch, start) for model, start in first)


def _is_ready(state: FleetState, model: ModelState, watch: Watch, start_ms: int) -> bool:
    return is_ready(model.key, start_ms, model.windows[start_ms], state.final_ms, watch)


def _finish(state: FleetState, watch: Watch, out: Judged) -> None:
    """Final verdicts on what is due, in order per model version; what waits beyond the bounds is dropped, and counted.

    What waits for its baseline holds up what follows it: alerts go by the order of windows.
    """
    last_ms = state.final_ms - watch.plan.window_ms
    due: list[tuple[ModelState, int]] = []
    overdue: list[tuple[ModelState, int]] = []
    for model in (state.models[key] for key in sorted(state.models)):
        starts = sorted(start for start in model.windows if start <= last_ms)
        tried = starts[: out.room - len(due)]
        ready = list(takewhile(functools.partial(_is_ready, state, model, watch), tried))
        due += [(model, start) for start in ready]
        if len(ready) < len(tried):
            overdue += [(model, start) for start in starts[len(ready) :]]
    out.room -= len(due)
    _judge_finally(due, watch, out)
    excess = list(beyond_bounds(((model.key, start), model.windows[start]) for model, start in overdue))
    for key, start in excess:
        out.unmatched += len(state.models[key].windows[start])
        state.models[key].forget(start)
    if excess:
        _finish(state, watch, out)  # what they have held up
        return
    for key in sorted(state.models):
        out.alerts += _silenced(state.models[key], state.final_ms, watch)


def _judge_finally(due: Sequence[tuple[ModelState, int]], watch: Watch, out: Judged) -> None:
    """Final verdicts on windows."""
    places = [(model.key, start_ms, model.windows[start_ms]) for model, start_ms in due]
    for (model, start_ms), (verdict, layout, unmatched) in zip(
        due, verdicts_on(places, watch, final=True), strict=True
    ):
        out.unmatched += unmatched
        model.forget(start_ms)
        if verdict is None or layout is None:
            continue
        out.alerts += _silenced(model, start_ms, watch)
        model.last = LastWindow(start_ms, verdict.baseline)
        out.verdicts.append(verdict)
        alerts = alerts_of(layout, verdict, model.standings)
        out.alerts += [*alerts, *corrections(model.provisional, model.standings, start_ms, alerts)]


def _silenced(model: ModelState, now_ms: int, watch: Watch) -> list[Alert]:
    """Resolve what is open of a model version without data for so long, up to a moment of event time."""
    if model.last is None or not any(standing.severity for standing in model.standings.values()):
        return []
    due_ms = model.last.start_ms + (1 + watch.plan.policy.resolve_without_data) * watch.plan.window_ms
    if due_ms > now_ms or any(start < due_ms for start in model.windows):
        return []
    model.is_dirty = True
    return no_data(model.key, model.standings, model.last, due_ms, watch)


def _retire(state: FleetState, watch: Watch, out: Judged) -> None:
    """Drop model versions whose baseline was withdrawn, with what waits of them; their alerts are resolved."""
    for key in sorted(watch.retired & state.models.keys()):
        model = state.models.pop(key)
        state.removed.add(key)
        out.retired.append(key)
        out.unmatched += sum(map(len, model.windows.values()))
        if model.last is not None:
            out.alerts += retirement(key, model.standings, model.last, watch)


def _judge_provisionally(state: FleetState, watch: Watch, out: Judged) -> None:
    """Judge what only idle partitions hold back. Each verdict goes by the history that it would have."""
    if len(state.marks) < next(iter(state.marks.values())).partitions:
        return
    through_ms = min((mark.closed_ms for mark in state.marks.values() if not mark.idle), default=None)
    window_ms = watch.plan.window_ms  # those that are final are soon said finally
    windows = _windows(state, state.final_ms - window_ms, None if through_ms is None else through_ms - window_ms)
    _draft(windows, watch, out)
    for model, own in groupby(windows, key=itemgetter(0)):
        standings = dict(model.standings)
        drafts = [model.drafts[start_ms] for _, start_ms in own if start_ms in model.drafts]
        for _, verdict, layout in drafts:
            for alert in alerts_of(layout, verdict, standings):
                if alert.id not in model.provisional:
                    model.provisional[alert.id] = alert
                    model.is_dirty = True
                    out.alerts.append(alert)


def _draft(windows: Sequence[tuple[ModelState, int]], watch: Watch, out: Judged) -> None:
    """Provisional verdicts on windows, made and sent anew only where the partials have changed."""
    changed = [
        (model, start_ms)
        for model, start_ms in windows
        if start_ms not in model.drafts or model.drafts[start_ms][0] != model.windows[start_ms]
    ]
    places = [(model.key, start_ms, model.windows[start_ms]) for model, start_ms in changed]
    for (model, start_ms), (verdict, layout, _) in zip(changed, verdicts_on(places, watch, final=False), strict=True):
        model.drafts.pop(start_ms, None)
        if verdict is not None and layout is not None:
            out.verdicts.append(verdict)
            model.drafts[start_ms] = dict(model.windows[start_ms]), verdict, layout
