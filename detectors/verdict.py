"""Stage 2: partitions' partial counts become verdicts and alerts.

``step`` knows no clock. When a window's verdict is final depends on the log alone (:mod:`.finality`). While partitions are idle, windows are judged provisionally from what there is; provisional verdicts
and alerts are marked as such and leave no trace in the history that final ones are decided by.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

import numpy as np

from driftline.detectors import finality
from driftline.detectors.alerts import Alert, Window
from driftline.detectors.duplicates import Duplicates
from driftline.detectors.earlier import Earlier
from driftline.detectors.finality import EVER, Moment
from driftline.detectors.judging import Verdict, judge_windows
from driftline.detectors.layout import Layout
from driftline.detectors.measuring import Evidence
from driftline.detectors.new_levels import merged
from driftline.detectors.partials import Mark, Partial
from driftline.detectors.policy import Standing
from driftline.detectors.reporting import (
    Subject,
    retraction,
    upheld,
)
from driftline.detectors.transitions import alerts_of
from driftline.detectors.watch import ModelKey, Watch

Item = Partial | Mark
WINDOWS_AT_ONCE = 32
"""Windows that are judged together: enough to share the cost of calls, few enough for the memory that they take."""


@dataclass(slots=True)
class ModelState:
    """One model version in stage 2.

    Parameters
    ----------
    key
        Model and version.
    next_offset
        Partials below it are in this state already.
    windows
        Newest partial per window start and input partition, of windows that are not final.
    earlier
        Partials before those, and what came too late.
    standings
        Per (kind, signal), where its alert stands after the last final window.
    provisional
        Alerts that fired provisionally and are not final yet, by id.
    drafts
        Provisional verdicts by window, with the partials that they were made of; never saved.
    is_dirty
        Whether it differs from its last snapshot.
    """

    key: ModelKey
    next_offset: int = 0
    windows: dict[int, dict[int, Partial]] = field(default_factory=dict)
    earlier: Earlier = field(default_factory=Earlier)
    standings: dict[Subject, Standing] = field(default_factory=dict)
    provisional: dict[str, Alert] = field(default_factory=dict)
    drafts: dict[int, tuple[dict[int, Partial], Verdict, Layout]] = field(default_factory=dict)
    is_dirty: bool = True

    def keep(self, partial: Partial) -> None:
        """Take in a partial of a window that is not final."""
        parts = self.windows.setdefault(partial.start_ms, {})
        parts[partial.partition] = self.earlier.newest(parts.get(partial.partition), partial)

    def forget(self, start_ms: int) -> None:
        """Drop a window that is final."""
        del self.windows[start_ms]
        self.drafts.pop(start_ms, None)
        self.is_dirty = True


@dataclass(slots=True)
class FleetState:
    """All that stage 2 remembers of one partition of ``partials``.

    Parameters
    ----------
    partition
        Which partition of ``partials``.
    next_offset
        The first offset that is not in this state.
    marks
        Newest mark per input partition, with all facts that windows which are not final may need.
    final_ms
        Every window that ends at or before this is final.
    models
        State per model version.
    partitions
        Of how many partitions: the number is part of the state's identity.
    """

    partition: int
    next_offset: int = 0
    marks: dict[int, Mark] = field(default_factory=dict)
    final_ms: int = 0
    models: dict[ModelKey, ModelState] = field(default_factory=dict)
    partitions: int = 1


@dataclass(slots=True)
class Judged:
    """Outputs of one step.

    Parameters
    ----------
    verdicts, alerts
        In order.
    stale
        Partials that came for windows that are final already.
    missed
        Records that these windows' verdicts lack: their partition had been idle.
    unmatched
        Partials of another baseline than their window is judged by.
    """

    verdicts: list[Verdict] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    stale: int = 0
    missed: int = 0
    unmatched: int = 0


def step(state: FleetState, items: Iterable[tuple[int, Item]], watch: Watch) -> tuple[FleetState, Judged]:
    """Take in partials and marks, each with its offset, in log order; those below ``next_offset`` are skipped.

    The state that it is given is spent; go on with the one that it returns.
    """
    out = Judged()
    touched = False
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
    model = state.models.setdefault(key, ModelState(key))
    if offset < model.next_offset:
        return
    model.next_offset, model.is_dirty = offset + 1, True
    if end_ms <= state.final_ms:
        out.missed += model.earlier.missed(partial)
    else:
        model.keep(partial)


def _take_mark(state: FleetState, mark: Mark, watch: Watch, out: Judged) -> None:
    """Take in what a partition tells of itself, and make final what that settles."""
    state.marks[mark.partition] = finality.merged(state.marks.get(mark.partition), mark)
    moments = finality.moments(state.marks, state.final_ms)
    dragged_ms = finality.dragged_ms(state.marks, watch.plan.max_provisional_windows * watch.plan.window_ms)
    if dragged_ms > (moments[-1].end_ms if moments else state.final_ms):
        moments.append(Moment(dragged_ms, EVER))
    if not moments:
        return
    state.final_ms = moments[-1].end_ms
    state.marks = {place: finality.without(each, moments[-1]) for place, each in state.marks.items()}
    due = _windows(state, state.final_ms - watch.plan.window_ms)
    _finish(due, moments, watch, out)
    closed_ms = {place: each.closed_ms for place, each in state.marks.items()}
    for model in state.models.values():
        model.earlier.forget(closed_ms, watch.plan.window_ms)


def _windows(state: FleetState, last_ms: int | None) -> list[tuple[ModelState, int]]:
    """Windows that start at a moment or before it, None for all, by model version and start."""
    models = [state.models[key] for key in sorted(state.models)]
    return [
        (model, start) for model in models for start in sorted(model.windows) if last_ms is None or start <= last_ms
    ]


def _finish(due: Sequence[tuple[ModelState, int]], moments: Sequence[Moment], watch: Watch, out: Judged) -> None:
    """Final verdicts on windows, each by the records that were appended up to its moment."""
    found = []
    for model, start_ms in due:
        moment = moments[bisect_left(moments, (start_ms + watch.plan.window_ms,))]
        parts = {}
        for partition, newest in model.windows[start_ms].items():
            counted, missed = model.earlier.settle(newest, moment.appended_ms)
            out.missed += missed
            if counted is not None:
                parts[partition] = counted
        if parts:
            found.append((model, start_ms, parts))
        else:
            model.forget(start_ms)
    for model, start_ms, verdict, layout in _verdicts(found, watch, out, final=True):
        model.forget(start_ms)
        if verdict is None or layout is None:
            continue
        out.verdicts.append(verdict)
        alerts = alerts_of(layout, verdict, model.standings)
        out.alerts += [*alerts, *_corrections(model, start_ms, alerts)]


def _corrections(model: ModelState, start_ms: int, alerts: Sequence[Alert]) -> Iterator[Alert]:
    """Put right what was said provisionally up to a window that is final now, and does not hold.

    The last alert of a fingerprint must say what is true, so an alert that a final one or a later provisional one
    follows needs no correction.
    """
    due = [each for each in model.provisional.values() if each.window.start_ms <= start_ms]
    for alert in due:
        del model.provisional[alert.id]
    followed = {each.fingerprint for each in (*alerts, *model.provisional.values())}
    last = {each.fingerprint: each for each in sorted(due, key=lambda each: each.window.start_ms)}
    for alert in last.values():
        if alert.state == "event" or alert.fingerprint in followed:
            continue
        severity = model.standings.get((alert.kind, alert.signal), Standing()).severity
        if severity and (alert.state, alert.severity) != ("firing", severity):
            yield upheld(alert, severity)
        elif not severity and alert.state == "firing":
            yield retraction(alert)


def _verdicts(
    windows: Sequence[tuple[ModelState, int, Mapping[int, Partial]]], watch: Watch, out: Judged, *, final: bool
) -> Iterator[tuple[ModelState, int, Verdict | None, Layout | None]]:
    """Judge windows by their partials, some at once; a window whose baseline is not known has no verdict."""
    for first in range(0, len(windows), WINDOWS_AT_ONCE):
        some = windows[first : first + WINDOWS_AT_ONCE]
        found = [_merged(model.key, start_ms, parts, watch, out) for model, start_ms, parts in some]
        verdicts = iter(judge_windows([each for each in found if each is not None], final=final))
        for (model, start_ms, _), each in zip(some, found, strict=True):
            yield (model, start_ms, None, None) if each is None else (model, start_ms, next(verdicts), each.layout)


def _merged(key: ModelKey, start_ms: int, parts: Mapping[int, Partial], watch: Watch, out: Judged) -> Evidence | None:
    """Merge the partitions' counts, which is addition."""
    hashes = {partial.baseline for partial in parts.values()}
    effective = watch.effective(key, start_ms)
    chosen = effective.baseline.hash if effective and effective.baseline.hash in hashes else min(hashes)
    layout = watch.by_hash(key, chosen)
    same = [partial for _, partial in sorted(parts.items()) if partial.baseline == chosen]
    out.unmatched += len(parts) - len(same) if layout else len(parts)
    if layout is None:
        return None
    vector = np.stack([partial.counts() for partial in same]).sum(axis=0, dtype=np.int64)
    changes = [change for partial in same for change in partial.changes]
    window = Window(start_ms, start_ms + watch.plan.window_ms)
    duplicates = Duplicates.merged(Duplicates.load(partial.duplicates) for partial in same)
    return Evidence(layout, window, vector, changes, merged(partial.new_levels for partial in same), duplicates)


def _judge_provisionally(state: FleetState, watch: Watch, out: Judged) -> None:
    """Judge what only idle partitions hold back. Each verdict goes by the history that it would have."""
    if len(state.marks) < next(iter(state.marks.values())).partitions:
        return
    through_ms = min((mark.closed_ms for mark in state.marks.values() if not mark.idle), default=None)
    windows = _windows(state, None if through_ms is None else through_ms - watch.plan.window_ms)
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
        (model, start_ms, model.windows[start_ms])
        for model, start_ms in windows
        if start_ms not in model.drafts or model.drafts[start_ms][0] != model.windows[start_ms]
    ]
    for model, start_ms, verdict, layout in _verdicts(changed, watch, out, final=False):
        model.drafts.pop(start_ms, None)
        if verdict is not None and layout is not None:
            out.verdicts.append(verdict)
            model.drafts[start_ms] = dict(model.windows[start_ms]), verdict, layout
