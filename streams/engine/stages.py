"""The two stages as the pump runs them: wire formats around the two ``step`` functions, and their metrics."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from driftline.detectors.documents.partials import Mark, Partial
from driftline.detectors.documents.predictions import Batch
from driftline.detectors.errors import DamagedState, RecordError
from driftline.detectors.layout.watch import Watch
from driftline.detectors.snapshots import profile_snapshot, verdict_snapshot
from driftline.detectors.tumbling import NO_TIME
from driftline.detectors.verdicts import verdict
from driftline.detectors.verdicts.fleet import FleetState, Judged
from driftline.detectors.windows import profiling
from driftline.detectors.windows.ingest import Profiled
from driftline.detectors.windows.profiling import PartitionState
from driftline.streams.engine.dead_letters import Allowance, dead_letters, explained
from driftline.streams.engine.holding import Holding
from driftline.streams.engine.ports import SETTLING_S
from driftline.streams.engine.unknown_models import Strangers
from driftline.streams.formats import wire
from driftline.streams.formats.wire import Outgoing, Raw
from driftline.streams.observability.metrics import Metrics

log = logging.getLogger(__name__)

BATCH_RECORDS = 2048
"""Records that are taken in at once, less than twice as many: what is made of them stays in the processor's cache."""
MODEL_RECORDS = 64
"""With many models more, so many of each: a model costs as much per batch as dozens of its records."""
COUNT_BITS = 48
"""No count is longer, so that no sum over partitions wraps."""
WINDOWS_PER_STEP = 512
"""Final windows that are judged before others have their turn: half a second. A backlog makes tens of thousands due."""


@dataclass(slots=True)
class Shared:
    """What both stages read: the watch that is in force now, replaced whole when a baseline comes."""

    watch: Watch
    partitions: int
    partials_partitions: int
    max_record_bytes: int
    metrics: Metrics
    dead_letters: Allowance = field(default_factory=Allowance)
    appended_ms: int = NO_TIME
    """Highest append time of the broker that this worker has read or been told of."""
    strangers: Strangers = field(default_factory=Strangers)
    holding: Holding = field(default_factory=Holding)

    def partitions_of(self, stage: str) -> int:
        """Partitions of what a stage reads."""
        return {"profiles": self.partitions, "verdicts": self.partials_partitions}[stage]


class ProfilingStage:
    """Stage 1: predictions in, partials, marks, single-record alerts and dead letters out."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._idle_through_ms: dict[int, int] = {}

    def restore(self, partition: int, saved: Mapping[bytes, bytes]) -> tuple[PartitionState, dict[bytes, DamagedState]]:
        """State from saved values."""
        self._idle_through_ms.pop(partition, None)
        state, damaged = profile_snapshot.load(partition, self._shared.partitions, saved, self._shared.watch)
        self._shared.metrics.damaged.labels("profiling").inc(len(damaged))
        self._shared.metrics.unmatched_partials.inc(sum(state.left_out.values()))
        for line in state.left_out:
            log.warning("partition %d: left out %s", partition, line)
        return state, damaged

    def step(self, state: PartitionState, records: Sequence[Raw]) -> tuple[PartitionState, list[Outgoing]]:
        """Take in records of one partition."""
        fresh = [record for record in records if record.offset >= state.next_offset]
        n_skipped = len(records) - len(fresh)
        self._count(Profiled(skipped=n_skipped), n_skipped)
        # At least so many in each: a poll a little larger than a part, cut in halves, would pay for every model twice.
        n_parts = len(fresh) // max(BATCH_RECORDS, MODEL_RECORDS * len(state.cells)) or min(1, len(fresh))
        outputs: list[Outgoing] = []
        for part in range(n_parts):
            start, stop = (len(fresh) * each // n_parts for each in (part, part + 1))
            state, sent = self._step(state, fresh[start:stop])
            outputs += sent
        return state, outputs

    def _step(self, state: PartitionState, fresh: Sequence[Raw]) -> tuple[PartitionState, list[Outgoing]]:
        started = perf_counter()
        shared = self._shared
        batch, unreadable = wire.decode(fresh, shared.watch, shared.max_record_bytes)
        self._look_at_append_times(batch)
        before, (state, out) = state.clock, profiling.step(state, batch, shared.watch)
        shared.holding.say_who_stands(before, state, shared.watch.plan)
        out.rejected = sorted(out.rejected + [(each.offset, each.reason) for each in unreadable])
        self._count(out, len(fresh))
        shared.strangers.note(fresh, out.rejected)
        allowed = shared.dead_letters.take(len(out.rejected))
        shared.metrics.dead_letters.inc(allowed)
        shared.metrics.suppressed_dead_letters.inc(len(out.rejected) - allowed)
        shared.metrics.watermark.labels(state.partition).set(state.closed_ms / 1000)
        shared.metrics.batch_seconds.labels("profiling").observe(perf_counter() - started)
        for name, count in batch.dropped.items():
            shared.metrics.dropped_fields.labels(name).inc(count)
        told = list(explained(out.rejected[:allowed], unreadable, batch, shared.watch))
        return state, [*self._outgoing(out), *dead_letters(fresh, told, shared.watch)]

    def _look_at_append_times(self, batch: Batch) -> None:
        """Learn the highest one, and see whether they contradict what was said of the partition while it was idle."""
        shared = self._shared
        highest_ms = int(batch.appended_ms.max(initial=NO_TIME, where=batch.log_append))
        shared.appended_ms = max(shared.appended_ms, highest_ms)
        idle_through_ms = self._idle_through_ms.pop(batch.partition, NO_TIME)
        n = int((batch.log_append & (batch.appended_ms <= idle_through_ms)).sum())
        if n:
            shared.metrics.untimely_appends.inc(n)
            log.error(
                "predictions partition %d: %d records have append times at which it was known to be idle: the brokers' "
                "clocks differ by more than %g s; final verdicts may lack these records",
                *(batch.partition, n, SETTLING_S),
            )

    def _outgoing(self, out: Profiled) -> Iterator[Outgoing]:
        """Partials before their mark; single-record alerts first of all, for they are waited for."""
        for alert in out.events:
            self._shared.metrics.alerts.labels(alert.model, alert.kind, alert.severity, alert.state).inc()
            yield wire.alert_record(alert)
        for partial in out.partials:
            yield wire.partial_record(partial)
        if out.mark is not None:
            yield from wire.mark_records(out.mark, self._shared.partials_partitions)

    def _count(self, out: Profiled, n: int) -> None:
        """All counters of one batch at one moment, so that they always add up."""
        metrics = self._shared.metrics
        metrics.records_in.inc(n)
        for result, count in (
            ("accepted", out.accepted),
            ("late", out.late),
            ("rejected", len(out.rejected)),
            ("flush_mark", out.flushes),
            ("replay_skipped", out.skipped),
        ):
            metrics.records.labels(result).inc(count)
        for reason, count in Counter(reason for _, reason in out.rejected).items():
            metrics.rejected.labels(reason).inc(count)
        metrics.unmatched_partials.inc(out.unmatched)

    def used_upto(self, state: PartitionState) -> int:
        """Offset after the last record that counted."""
        return state.clock.upto

    def is_due(self, state: PartitionState) -> bool:
        """Stage 1 says nothing without records."""
        del state
        return False

    def idle(self, state: PartitionState) -> list[Outgoing]:
        """What to send when the partition has been silent for a while."""
        return list(self._outgoing(profiling.provisional(state)))

    def appended_ms(self) -> int:
        """Return the highest append time that this worker knows."""
        return self._shared.appended_ms

    def idle_through(self, state: PartitionState, through_ms: int) -> list[Outgoing]:
        """What to send when nothing was appended behind an idle state up to an append time."""
        self._idle_through_ms[state.partition] = through_ms
        return list(self._outgoing(profiling.idle_through(state, through_ms, self._shared.watch.plan)))

    def dump(self, state: PartitionState) -> Iterator[tuple[bytes, bytes]]:
        """Values to save."""
        self._shared.metrics.checkpoints.labels("profiling").inc()
        return profile_snapshot.dump(state, self._shared.watch)

    def gap(self, lost: int) -> None:
        """Count offsets that retention took."""
        self._shared.metrics.lost.inc(lost)

    def released(self, state: PartitionState) -> None:
        """Remove the series of a partition that another worker owns from now on."""
        self._shared.metrics.watermark.remove(state.partition)
        self._idle_through_ms.pop(state.partition, None)


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
