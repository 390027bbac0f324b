from __future__ import annotations

from dataclasses import dataclass

import pytest

from driftline.detectors.cell import Cell
from driftline.detectors.plan import Plan
from driftline.detectors.watch import Watch
from driftline.streams.metrics import Metrics
from driftline.streams.stages import BATCH_RECORDS, MODEL_RECORDS, ProfilingStage, Shared


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
