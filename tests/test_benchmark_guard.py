"""What would make a worker slow without another test turning red: held by ratios and by counts, never by a clock's time.

The peer is the naive agent's arithmetic of ``make bench``, without Kafka and Faust, on the same records in the same
process: a slow or busy machine slows both.
"""

from __future__ import annotations

import gc
import importlib
import sys
import tracemalloc
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import pytest

from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import Plan
from driftline.streams.engine.profiling_stage import ProfilingStage
from driftline.streams.engine.shared import Shared
from driftline.streams.observability.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from driftline.detectors.documents.baseline import Baseline
    from driftline.detectors.windows.profiling import PartitionState

    Step = Callable[[PartitionState, Sequence[Any]], object]

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
BATCH, NAIVE_BATCH, ROUNDS = 4_000, 400, 7
FEW, MANY = 1_000, 4_000
"""Two sizes of a batch: their difference is what records cost, without what a batch costs."""

TYPICAL_RATIO = 9.5
"""CPU time per record of the naive arithmetic over stage 1's, cheapest round each: 9.1 and 10.0 on a busy machine."""
LEAST_RATIO = TYPICAL_RATIO / 2

MOST_PYTHON_CALLS = 0.5
"""A record more: 0.04. What is called once a batch, or once a thousand rows, is not seen by it."""
MOST_C_CALLS = 1.5
"""A record more: 1.07, of which one is the decoder."""
MOST_CALLS_OF_A_BATCH = 450
"""Python calls of a batch of FEW records of one model, 311: with many models it is this that counts."""
MOST_BYTES = 6_000
"""Peak of what a batch of MANY allocates, by its records: 2 900."""


class Log(NamedTuple):
    """Records of one model, its baseline, and the peer's model of it."""

    records: list[Any]
    baseline: Baseline
    naive: Any

    def stage(self) -> tuple[ProfilingStage, PartitionState]:
        """Return stage 1 and a state that has seen its first three batches."""
        watch = Watch(Plan()).with_baseline(self.baseline)
        stage = ProfilingStage(Shared(watch, 1, 1, 2**20, Metrics("0")))
        state, _ = stage.restore(0, {})
        for start in range(0, 3 * BATCH, BATCH):
            state, _ = stage.step(state, self.records[start : start + BATCH])
        return stage, state

    def batch(self, n: int) -> list[Any]:
        """Return the next records."""
        return self.records[3 * BATCH : 3 * BATCH + n]


@pytest.fixture(scope="module")
def log() -> Iterator[Log]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        generator, kafka_record, peer = map(importlib.import_module, ("generator", "kafka_record", "naive"))
        work = generator.Work((3 + ROUNDS) * BATCH)
        (baseline,) = generator.baselines(work)
        records = list(kafka_record.records_of(generator.values(work), generator.START_MS))
        yield Log(records, baseline, peer.NaiveModel(orjson.loads(baseline.to_json())))


def test_stage_one_is_many_times_cheaper_than_the_naive_way(log: Log) -> None:
    stage, state = log.stage()
    ours, theirs = [], []
    for start in range(3 * BATCH, (3 + ROUNDS) * BATCH, BATCH):
        batch = log.records[start : start + BATCH]
        began = process_time()
        state, _ = stage.step(state, batch)
        ours.append((process_time() - began) / BATCH)
        began = process_time()
        for record in batch[:NAIVE_BATCH]:
            log.naive.observe(orjson.loads(record.value))
        theirs.append((process_time() - began) / NAIVE_BATCH)
    assert min(theirs) / min(ours) >= LEAST_RATIO  # the least that either takes: disturbances only add


class Calls(NamedTuple):
    python: int
    c: int


def calls(step: Step, state: PartitionState, batch: Sequence[Any]) -> Calls:
    """Count the calls of a step; the same step makes the same calls however long they take."""
    found = {"call": 0, "c_call": 0}

    def count(_frame: object, event: str, _argument: object) -> None:
        if event in found:
            found[event] += 1

    before = sys.getprofile()
    gc.disable()  # what it finalises would be counted
    sys.setprofile(count)
    try:
        step(state, batch)
    finally:
        sys.setprofile(before)
        gc.enable()
    return Calls(found["call"], found["c_call"])


def calls_of_a_record(log: Log, step_of: Callable[[ProfilingStage], Step]) -> tuple[float, float]:
    """Calls that one record more makes."""
    few, many = (calls(step_of(stage), state, log.batch(n)) for n in (FEW, MANY) for stage, state in (log.stage(),))
    return (many.python - few.python) / (MANY - FEW), (many.c - few.c) / (MANY - FEW)


def test_no_python_function_is_called_for_every_record(log: Log) -> None:
    python, c = calls_of_a_record(log, lambda stage: stage.step)
    assert python <= MOST_PYTHON_CALLS
    assert c <= MOST_C_CALLS


def with_a_function_for_every_record(stage: ProfilingStage) -> Step:
    def is_sound(record: Any) -> bool:
        return bool(record.offset >= 0)

    return lambda state, records: stage.step(state, [record for record in records if is_sound(record)])


def with_a_builtin_for_every_record(stage: ProfilingStage) -> Step:
    return lambda state, records: stage.step(state, [record for record in records if len(record.value) > 1])


def test_the_count_sees_a_python_function_that_is_called_for_every_record(log: Log) -> None:
    python, _ = calls_of_a_record(log, with_a_function_for_every_record)
    assert python > MOST_PYTHON_CALLS


def test_the_count_sees_a_builtin_that_is_called_for_every_record(log: Log) -> None:
    _, c = calls_of_a_record(log, with_a_builtin_for_every_record)
    assert c > MOST_C_CALLS


def test_a_batch_makes_few_calls_of_its_own(log: Log) -> None:
    stage, state = log.stage()
    assert 0 < calls(stage.step, state, log.batch(FEW)).python <= MOST_CALLS_OF_A_BATCH


def peak_bytes(step: Step, state: PartitionState, batch: Sequence[Any]) -> int:
    """Most bytes that a step has allocated at one moment."""
    tracemalloc.start()
    try:
        step(state, batch)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_batch_takes_little_memory_for_a_record(log: Log) -> None:
    stage, state = log.stage()
    assert peak_bytes(stage.step, state, log.batch(MANY)) / MANY <= MOST_BYTES


def test_the_peak_sees_what_is_kept_of_every_record(log: Log) -> None:
    def hoarding(state: PartitionState, records: Sequence[Any]) -> object:
        kept = [bytearray(MOST_BYTES) for _ in records]
        return stage.step(state, records), kept

    stage, state = log.stage()
    assert peak_bytes(hoarding, state, log.batch(MANY)) / MANY > MOST_BYTES
