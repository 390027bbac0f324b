from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import Plan
from driftline.streams.engine.profiling_stage import ProfilingStage
from driftline.streams.engine.shared import Shared
from driftline.streams.engine.unknown_models import MOST_NAMES, MOST_READ, Strangers
from driftline.streams.observability.metrics import Metrics
from tests.logs import Record, churn, watching


def prediction(offset: int, model: str, version: str) -> Record:
    document = {"model": model, "version": version, "features": {}, "prediction": 1, "timestamp": 10**12}
    return Record("predictions", 0, offset, 10**12, json.dumps(document).encode())


def test_the_worker_names_models_that_no_baseline_has() -> None:
    shared = Shared(watching(Plan(), churn()), 1, 1, 2**20, Metrics("1.0"))
    stage = ProfilingStage(shared)
    state, _ = stage.restore(0, {})
    names = [("chrun", "1")] * 3 + [("churn", "1")] * 5 + [("churn", "7")]
    stage.step(state, [prediction(offset, *name) for offset, name in enumerate(names)])
    sentence = shared.strangers.sentence()
    assert sentence is not None
    assert sentence.startswith(
        "no baseline for model 'chrun' version '1' (3 records), model 'churn' version '7' (1 records): publish one"
    )


def test_it_is_said_once_a_minute_with_all_that_came_meanwhile() -> None:
    now = 0.0
    strangers = Strangers(lambda: now)
    strangers.note([prediction(0, "a", "1")], [(0, "unknown_model")])
    assert strangers.sentence() is not None
    for offset in range(7):
        strangers.note([prediction(offset, "a", "1")], [(offset, "unknown_model")])
    assert strangers.sentence() is None
    now = 60.0
    assert "(7 records)" in str(strangers.sentence())
    now = 120.0
    assert strangers.sentence() is None


def test_other_reasons_are_not_its_business() -> None:
    strangers = Strangers(lambda: 0.0)
    strangers.note([prediction(0, "a", "1")], [(0, "invalid_json")])
    assert strangers.sentence() is None


@given(st.lists(st.text(max_size=200), min_size=1, max_size=3 * MOST_READ, unique=True))
def test_names_are_bounded_and_printable_and_every_record_is_counted(names: list[str]) -> None:
    strangers = Strangers(lambda: 0.0)
    records = [prediction(offset, name, "1") for offset, name in enumerate(names)]
    strangers.note(records, [(offset, "unknown_model") for offset in range(len(names))])
    assert sum(n for _, n in strangers._counts.ranked()) == len(names)
    sentence = strangers.sentence()
    assert sentence is not None
    assert sentence.isprintable()
    assert sentence.count("version") <= MOST_NAMES
    assert len(sentence) < 2 * MOST_NAMES * 128 * 10


def test_a_watch_without_any_baseline_names_everybody() -> None:
    shared = Shared(Watch(Plan()), 1, 1, 2**20, Metrics("1.0"))
    stage = ProfilingStage(shared)
    state, _ = stage.restore(0, {})
    stage.step(state, [prediction(0, "a", "1")])
    assert "model 'a' version '1'" in str(shared.strangers.sentence())
