"""Stage 1 as the pump runs it: wire formats around ``profiling.step``, and its metrics."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter

from driftline.detectors.documents.predictions import Batch
from driftline.detectors.errors import DamagedState
from driftline.detectors.snapshots import profile_snapshot
from driftline.detectors.tumbling import NO_TIME
from driftline.detectors.windows import profiling
from driftline.detectors.windows.ingest import Profiled
from driftline.detectors.windows.profiling import PartitionState
from driftline.streams.engine.dead_letters import dead_letters, explained
from driftline.streams.engine.ports import SETTLING_S
from driftline.streams.engine.shared import Shared
from driftline.streams.formats import wire
from driftline.streams.formats.wire import Outgoing, Raw

log = logging.getLogger(__name__)

BATCH_RECORDS = 2048
"""Records that are taken in at once, less than twice as many: what is made of them stays in the processor's cache."""
MODEL_RECORDS = 64
"""With many models more, so many of each: a model costs as much per batch as dozens of its records."""


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
