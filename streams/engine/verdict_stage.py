"""Stage 2 as the pump runs it: wire formats around ``verdict.step``, and its metrics."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter

from driftline.detectors.documents.partials import Mark, Partial
from driftline.detectors.errors import DamagedState, RecordError
from driftline.detectors.layout.watch import Watch
from driftline.detectors.snapshots import verdict_snapshot
from driftline.detectors.tumbling import NO_TIME
from driftline.detectors.verdicts import verdict
from driftline.detectors.verdicts.fleet import FleetState, Judged
from driftline.streams.engine.shared import Shared
from driftline.streams.formats import wire
from driftline.streams.formats.wire import Outgoing, Raw

log = logging.getLogger(__name__)

COUNT_BITS = 48
"""No count is longer, so that no sum over partitions wraps."""
WINDOWS_PER_STEP = 512
"""Final windows that are judged before others have their turn: half a second. A backlog makes tens of thousands due."""


class VerdictStage:
    """Stage 2: partials and marks in, verdicts and alerts out, gauges set."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def restore(self, partition: int, saved: Mapping[bytes, bytes]) -> tuple[FleetState, dict[bytes, DamagedState]]:
        """State from saved values."""
        state, damaged = verdict_snapshot.load(partition, saved, self._shared.partials_partitions)
        metrics = self._shared.metrics
        metrics.damaged.labels("verdict").inc(len(damaged))
        for model, held in state.models.items():  # alerts that another worker opened
            for (kind, signal), standing in held.standings.items():
                if standing.severity:
                    metrics.drift_active.set(model, signal, kind, 1.0)
        return state, damaged

    def used_upto(self, state: FleetState) -> int:
        """Stage 2 uses all that it reads."""
        return state.next_offset

    def is_due(self, state: FleetState) -> bool:
        """Whether there are more final windows to judge, or a baseline has come that windows wait for, or one is gone."""
        return verdict.is_due(state, self._shared.watch)

    def step(self, state: FleetState, records: Sequence[Raw]) -> tuple[FleetState, list[Outgoing]]:
        """Take in records of one partition of ``partials``."""
        started = perf_counter()
        watch, items = self._shared.watch, list(_items(records, self._shared.watch))
        told_ms = [item.appended_ms for _, item in items if isinstance(item, Mark)]
        self._shared.appended_ms = max(self._shared.appended_ms, *told_ms, NO_TIME)
        state, out = verdict.step(state, items, watch, WINDOWS_PER_STEP)
        # A record that could not be read moves the state on as well.
        if records:
            state.next_offset = max(state.next_offset, records[-1].offset + 1)
        self._export(out)
        self._shared.holding.say_who_holds(state, watch.plan)
        self._shared.metrics.batch_seconds.labels("verdict").observe(perf_counter() - started)
        return state, [*map(wire.verdict_record, out.verdicts), *map(wire.alert_record, out.alerts)]

    def _export(self, out: Judged) -> None:
        metrics = self._shared.metrics
        metrics.stale_partials.inc(out.stale)
        metrics.missed_records.inc(out.missed)
        metrics.unmatched_partials.inc(out.unmatched)
        if out.missed or out.unmatched:
            log.error("%d records and %d partials are in no final verdict: docs/metrics.md", out.missed, out.unmatched)
        for found in out.verdicts:
            if found.final:
                metrics.windows_closed.labels(found.status).inc()
            for name, signal in found.signals.items():
                for detector, score in signal.scores.items():
                    if score is not None:
                        metrics.drift_score.set((found.model, found.version), name, detector, score)
        for alert in out.alerts:
            metrics.alerts.labels(alert.model, alert.kind, alert.severity, alert.state).inc()
            if alert.state != "event":
                is_open = alert.state == "firing"
                metrics.drift_active.set((alert.model, alert.version), alert.signal, alert.kind, float(is_open))
        metrics.forget(out.retired)

    def idle(self, state: FleetState) -> list[Outgoing]:
        """Stage 2 has nothing to say of its own silence."""
        del state
        return []

    def appended_ms(self) -> int:
        """Nothing follows from append times of ``partials``."""
        return NO_TIME

    def idle_through(self, state: FleetState, through_ms: int) -> list[Outgoing]:
        """Likewise."""
        del state, through_ms
        return []

    def dump(self, state: FleetState) -> Iterator[tuple[bytes, bytes]]:
        """Values to save."""
        self._shared.metrics.checkpoints.labels("verdict").inc()
        return verdict_snapshot.dump(state, self._shared.watch)

    def gap(self, lost: int) -> None:
        """Count partials that retention took: the windows they belong to may lack a part."""
        self._shared.metrics.lost_partials.inc(lost)

    def released(self, state: FleetState) -> None:
        """Remove the series of model versions that another worker judges from now on."""
        self._shared.metrics.forget(state.models)


def _items(records: Sequence[Raw], watch: Watch) -> Iterator[tuple[int, Partial | Mark]]:
    for record in records:
        try:
            yield record.offset, _sound(wire.decode_stage_two(record.value), watch)
        except RecordError as error:
            log.error("partials partition %d offset %d: %s; skipped", record.partition, record.offset, error)  # noqa: TRY400


def _sound(item: Partial | Mark, watch: Watch) -> Partial | Mark:
    """What another program has written must not end every worker that reads it.

    Raises
    ------
    RecordError
        For counts that its baseline can't have, and for a mark of no partition.
    """
    if isinstance(item, Mark):
        is_sound = 0 <= item.partition < item.partitions
    else:
        layout = watch.by_hash((item.model, item.version), item.baseline)
        is_sound = item.size == layout.size if layout else item.size >= 0
        is_sound = is_sound and bool((item.counts() >> COUNT_BITS == 0).all()) and item.has_sound_samples
    if not is_sound:
        raise RecordError("invalid_partial", "it does not fit its baseline, or no partition")
    return item
