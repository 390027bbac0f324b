"""Who holds back final verdicts, or gave way, is said by name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import orjson

from driftline.detectors.documents.partials import Mark
from driftline.detectors.plan import Plan
from driftline.detectors.verdicts.fleet import FleetState
from driftline.streams.engine.holding import EVERY_S, Holding
from driftline.streams.engine.profiling_stage import ProfilingStage
from driftline.streams.engine.shared import Shared
from driftline.streams.observability.metrics import Metrics
from tests.logs import START_MS, plain, watching
from tests.memory_broker import Record

if TYPE_CHECKING:
    import pytest

WINDOW_MS = Plan().window_ms
LONG_MS = 60 * WINDOW_MS


def test_a_partition_that_stands_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    stage = ProfilingStage(Shared(watching(Plan(), plain()), 4, 1, 2**20, Metrics("0")))
    state, _ = stage.restore(3, {})
    value = orjson.dumps({"model": "m", "version": "1", "features": {}, "prediction": 0.5, "timestamp": START_MS})
    for minute in range(70):
        record = Record("predictions", 3, minute, START_MS + minute * WINDOW_MS, value)
        state, _ = stage.step(state, [record])
        assert len(caplog.messages) == (minute >= 60)
    assert caplog.messages[0].startswith(f"predictions partition 3: no window after {state.closed_ms} ms of event time")


def test_a_partition_that_holds_back_others_is_named_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    times_s = iter([0.0, EVERY_S - 1, EVERY_S])
    holding = Holding(lambda: next(times_s))
    marks = {0: Mark(0, 4, LONG_MS + WINDOW_MS), 2: Mark(2, 4, WINDOW_MS), 3: Mark(3, 4, 2 * WINDOW_MS)}
    state = FleetState(0, marks=marks, final_ms=WINDOW_MS)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            holding.say_who_holds(state, Plan())
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith(
        "predictions partitions 1, 2: what others have closed 3600 s of event time ago"
    )


def test_nobody_is_named_for_less(caplog: pytest.LogCaptureFixture) -> None:
    marks = {0: Mark(0, 2, LONG_MS), 1: Mark(1, 2, WINDOW_MS)}
    Holding().say_who_holds(FleetState(0, marks=marks, final_ms=WINDOW_MS), Plan())
    Holding().say_who_holds(FleetState(0), Plan())
    assert caplog.messages == []
