from __future__ import annotations

from collections import Counter
from itertools import pairwise

from aiokafka.partitioner import DefaultPartitioner

from driftline.detectors.plan import Plan
from driftline.detectors.watch import Watch
from driftline.streams.app import StickyPartitioner
from driftline.streams.dead_letters import Allowance
from driftline.streams.memory import Record
from driftline.streams.metrics import Metrics
from driftline.streams.stages import ProfilingStage, Shared

N_FLOOD, PER_MINUTE = 1_000, 60


def flooded(allowance: Allowance) -> tuple[Metrics, int]:
    """Metrics and number of dead letters after a flood of records without sense."""
    metrics = Metrics("1.2.3")
    stage = ProfilingStage(Shared(Watch(Plan()), 1, 1, 2**20, metrics, allowance))
    state, _ = stage.restore(0, {})
    records = [Record("predictions", 0, offset, 0, b"{") for offset in range(N_FLOOD)]
    _, outputs = stage.step(state, records)
    return metrics, sum(each.topic == "dead_letters" for each in outputs)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"driftline_{name}_total", labels)


def test_a_flood_writes_as_many_dead_letters_as_are_allowed_and_counts_every_record() -> None:
    metrics, n_letters = flooded(Allowance(PER_MINUTE, lambda: 0.0))
    assert n_letters == value(metrics, "dead_letters") == PER_MINUTE
    assert value(metrics, "suppressed_dead_letters") == N_FLOOD - PER_MINUTE
    assert value(metrics, "records_rejected", reason="invalid_json") == N_FLOOD
    assert value(metrics, "records", result="rejected") == value(metrics, "records_in") == N_FLOOD


def test_without_a_cap_every_record_has_its_dead_letter() -> None:
    metrics, n_letters = flooded(Allowance())
    assert (n_letters, value(metrics, "suppressed_dead_letters")) == (N_FLOOD, 0)


def test_an_allowance_never_saves_more_than_a_minute() -> None:
    now_s = 0.0
    allowance = Allowance(PER_MINUTE, lambda: now_s)
    assert allowance.take(PER_MINUTE) == PER_MINUTE
    now_s = 10**6
    assert allowance.take(N_FLOOD) == PER_MINUTE
    assert allowance.take(1) == 0


def test_dead_letters_stay_on_one_partition_for_a_batch_and_come_to_all() -> None:
    choose, partitions = StickyPartitioner(), list(range(4))
    chosen = [choose(None, partitions, partitions) for _ in range(8 * choose.RUN)]
    assert Counter(chosen) == dict.fromkeys(partitions, 2 * choose.RUN)
    assert sum(one != other for one, other in pairwise(chosen)) == 8
    assert [choose(b"key", partitions, []) for _ in range(3)] == [DefaultPartitioner()(b"key", partitions, [])] * 3
