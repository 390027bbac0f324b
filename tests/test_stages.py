from __future__ import annotations

from dataclasses import dataclass

import orjson
import pytest

from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import Plan
from driftline.detectors.tumbling import NO_TIME
from driftline.detectors.windows.model_state import Cell
from driftline.streams.engine.profiling_stage import BATCH_RECORDS, MODEL_RECORDS, ProfilingStage
from driftline.streams.engine.shared import Shared
from driftline.streams.observability.metrics import Metrics
from tests.logs import START_MS, plain, watching


@dataclass
class Record:
    offset: int
    topic: str = "predictions"
    partition: int = 0
    timestamp: int = 0
    value: bytes | None = b"{}"
    timestamp_type: int = 1


@pytest.mark.parametrize("models", [0, 1, 100])
def test_a_poll_is_cut_into_slices_that_are_full(models: int) -> None:
    """Two halves of a poll that is a little larger than a slice would pay for every model twice."""
    full = max(BATCH_RECORDS, MODEL_RECORDS * models)
    expected = {0: 0, 1: 1, full - 1: 1, full: 1, full + 1: 1, 2 * full - 1: 1, 2 * full: 2, 3 * full - 1: 2}
    for n, slices in expected.items():
        metrics = Metrics("0")
        stage = ProfilingStage(Shared(Watch(Plan()), 1, 1, 2**20, metrics))
        state, _ = stage.restore(0, {})
        state.cells = {key: Cell(key) for key in ((f"m{model}", "1") for model in range(models))}
        state, _ = stage.step(state, [Record(offset) for offset in range(n)])
        assert state.next_offset == n
        labels = {"stage": "profiling"}
        assert (metrics.registry.get_sample_value("driftline_batch_duration_seconds_count", labels) or 0) == slices
        assert metrics.registry.get_sample_value("driftline_records_total", {"result": "rejected"}) == n


def test_windows_of_a_baseline_that_compaction_took_are_counted_when_a_state_is_restored() -> None:
    """What a worker that ran at the time would have counted."""
    values = [
        orjson.dumps({"model": "m", "version": "1", "features": {}, "prediction": 0.5, "timestamp": START_MS + at_ms})
        for at_ms in (0, 61_000)
    ]
    stage = ProfilingStage(Shared(watching(Plan(), plain()), 2, 1, 2**20, Metrics("0")))
    state, _ = stage.restore(0, {})
    records = [Record(offset, timestamp=START_MS + 61_000, value=value) for offset, value in enumerate(values)]
    state, _ = stage.step(state, records)
    assert len(state.cells["m", "1"].windows) == 2
    saved = dict(stage.dump(state))
    for watch, n in ((watching(Plan(), plain()), 0), (watching(Plan()), 2)):
        metrics = Metrics("0")
        ProfilingStage(Shared(watch, 2, 1, 2**20, metrics)).restore(0, saved)
        assert metrics.registry.get_sample_value("driftline_unmatched_partials_total") == n


def test_a_record_that_contradicts_what_was_said_of_its_idle_partition_is_counted() -> None:
    metrics = Metrics("0")
    watch = watching(Plan(), plain())
    stage = ProfilingStage(Shared(watch, 2, 1, 2**20, metrics))
    state, _ = stage.restore(0, {})
    value = orjson.dumps({"model": "m", "version": "1", "features": {}, "prediction": 0.5})
    state, _ = stage.step(state, [Record(0, timestamp=START_MS, value=value)])
    assert stage.appended_ms() == START_MS
    assert stage.idle_through(state, START_MS + 29_999) == []
    assert len(stage.idle_through(state, START_MS + 40_000)) == 1
    late = [Record(offset, timestamp=START_MS + 39_999 + offset, value=value) for offset in (1, 2)]
    stage.step(state, late)
    assert metrics.registry.get_sample_value("driftline_untimely_appends_total") == 1


def test_timestamps_of_producers_are_no_append_times() -> None:
    stage = ProfilingStage(Shared(watching(Plan(), plain()), 2, 1, 2**20, Metrics("0")))
    state, _ = stage.restore(0, {})
    value = orjson.dumps({"model": "m", "version": "1", "features": {}, "prediction": 0.5})
    state, _ = stage.step(state, [Record(0, timestamp=START_MS, value=value, timestamp_type=0)])
    assert stage.appended_ms() == NO_TIME
    assert stage.idle_through(state, START_MS + 10**9) == []
