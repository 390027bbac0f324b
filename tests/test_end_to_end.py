"""The same log on the embedded broker and on a real Kafka, by one worker and by two: what comes out is what must."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from driftline.detectors.baselines.fit import fit
from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import plan_from
from driftline.detectors.tumbling import DECIDING
from driftline.streams.demo.embedded import embedded_broker
from driftline.streams.formats.wire import LOG_APPEND_TIME
from driftline.streams.kafka.topics import create_topics
from tests.fleet import (
    Workers,
    expected,
    outcome_on,
    publish,
    settings_for,
    states_saved,
    topic_sizes,
    verdicts_complete,
)
from tests.memory_broker import Record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from driftline.detectors.documents.baseline import Baseline

WINDOW_MS = 10_000
PLAN = {"window_ms": WINDOW_MS, "lateness_ms": 2_000, "min_rows": 50}
START_MS = 1_700_000_000_000
N_WINDOWS = 12


def baseline(rng: np.random.Generator, model: str) -> Baseline:
    """Four numeric features, one category and a prediction."""
    columns = _columns(rng, 5_000, 0.0)
    return fit(model, "1", columns)


def _columns(rng: np.random.Generator, n: int, shift: float) -> dict[str, list[float] | list[str]]:
    x = rng.normal(size=(n, 4))
    x[:, 0] += shift
    columns: dict[str, list[float] | list[str]] = {f"x{place}": x[:, place].tolist() for place in range(4)}
    columns["kind"] = rng.choice(["a", "b", "c"], size=n).tolist()
    columns["prediction"] = x.sum(axis=1).tolist()
    return columns


def make_log(topic: str, partitions: int, per_window: int, timestamp_type: int = LOG_APPEND_TIME) -> list[list[Record]]:
    """Two models; the first one's ``x0`` shifts after two thirds; a few bad and late records; each partition ends with
    records so far ahead that every window closes: half of what is read of timestamps that are their producers'."""
    rng = np.random.default_rng(7)
    log: list[list[Record]] = [[] for _ in range(partitions)]

    def append(partition: int, event_ms: int, value: bytes) -> None:
        records = log[partition]
        records.append(Record(topic, partition, len(records), event_ms, value, timestamp_type=timestamp_type))

    for window in range(N_WINDOWS):
        for model in ("first", "second"):
            shift = 0.5 if model == "first" and window >= 2 * N_WINDOWS // 3 else 0.0
            columns = _columns(rng, per_window, shift)
            names = [name for name in columns if name != "prediction"]
            for row in range(per_window):
                event_ms = START_MS + window * WINDOW_MS + row * WINDOW_MS // per_window
                document = {
                    "model": model,
                    "version": "1",
                    "id": f"{window}-{row}",
                    "timestamp": event_ms,
                    "features": {name: columns[name][row] for name in names},
                    "prediction": columns["prediction"][row],
                }
                append(row % partitions, event_ms, orjson.dumps(document))
        append(window % partitions, START_MS + window * WINDOW_MS, b'{"model": "first"')
        late: dict[str, object] = {
            "model": "first",
            "version": "1",
            "features": {},
            "prediction": None,
            "timestamp": START_MS - 10**6,
        }
        append(window % partitions, START_MS, orjson.dumps(late))
    for partition in range(partitions):
        event_ms = START_MS + (N_WINDOWS + 2) * WINDOW_MS
        last: dict[str, object] = {
            "model": "first",
            "version": "1",
            "features": {},
            "prediction": None,
            "timestamp": event_ms,
        }
        for _ in range(DECIDING):
            append(partition, event_ms, orjson.dumps(last))
    return log


@pytest.mark.parametrize(("partitions", "workers"), [(1, 1), (4, 2)])
@pytest.mark.parametrize(
    "broker", [pytest.param("embedded", marks=pytest.mark.embedded), pytest.param("real", marks=pytest.mark.kafka)]
)
def test_workers_make_of_a_log_what_an_undisturbed_run_makes_of_it(
    broker: str, partitions: int, workers: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    name = f"e2e-{broker}-{partitions}-{workers}"
    rng = np.random.default_rng(3)
    baselines = [baseline(rng, "first"), baseline(rng, "second")]
    watch = Watch(plan_from(PLAN))
    for each in baselines:
        watch = watch.with_baseline(each)
    with ExitStack() as stack:
        if broker == "embedded":
            sizes = topic_sizes(settings_for("unused:1", name, tmp_path)[0], partitions)
            bootstrap = stack.enter_context(embedded_broker(sizes)).bootstrap_servers
        else:
            bootstrap = request.getfixturevalue("kafka")
        settings, config = settings_for(bootstrap, name, tmp_path, **PLAN)
        if broker == "real":
            asyncio.run(create_topics(settings, partitions))
        stamp = LOG_APPEND_TIME if broker == "real" else 0  # an embedded broker keeps its producers'
        log = make_log(settings.topics.predictions, partitions, 400, stamp)
        wanted = expected(watch, log)
        assert len(wanted.verdicts) == 2 * N_WINDOWS
        assert wanted.alerts
        asyncio.run(publish(settings, baselines, log))
        fleet = stack.enter_context(Workers(config))
        for _ in range(workers):
            fleet.start()
        asyncio.run(verdicts_complete(settings, wanted, within_s=60))
        asyncio.run(states_saved(settings, {place: len(records) for place, records in enumerate(log)}, within_s=30))
        codes = fleet.stop()
        found = asyncio.run(outcome_on(settings))
    assert codes == [0] * workers, "".join(log.read_text(encoding="utf-8") for log in fleet.logs.values())
    assert not found.contradictions
    assert found.verdicts == wanted.verdicts
    assert found.alerts == wanted.alerts
    assert found.states == wanted.states


async def _make_predictions_topic(bootstrap: str, name: str, partitions: int) -> None:
    """The broker's clock sets its records' timestamps."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        by_broker = {"message.timestamp.type": "LogAppendTime"}
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=by_broker)])
    finally:
        await admin.close()


@pytest.mark.kafka
def test_verdicts_are_final_where_all_records_lie_in_one_of_four_partitions(kafka: str, tmp_path: Path) -> None:
    rng, plan = np.random.default_rng(3), {**PLAN, "idle_after_ms": 2_000}
    baselines = [baseline(rng, "first"), baseline(rng, "second")]
    watch = Watch(plan_from(plan))
    for each in baselines:
        watch = watch.with_baseline(each)
    settings, config = settings_for(kafka, "one-key", tmp_path, **plan)
    asyncio.run(_make_predictions_topic(kafka, settings.topics.predictions, 4))
    asyncio.run(create_topics(settings, 4))
    [records] = make_log(settings.topics.predictions, 1, per_window=200)
    wanted = expected(watch, [records])
    assert len(wanted.verdicts) == 2 * N_WINDOWS
    with Workers(config) as fleet:
        for _ in range(2):
            fleet.start()
        asyncio.run(publish(settings, baselines, [records]))
        asyncio.run(verdicts_complete(settings, wanted, within_s=60))
        codes = fleet.stop()
        found = asyncio.run(outcome_on(settings))
    assert codes == [0, 0], "".join(log.read_text(encoding="utf-8") for log in fleet.logs.values())
    assert not found.contradictions
    assert found.verdicts == wanted.verdicts
    assert found.alerts == wanted.alerts


def test_the_log_holds_what_the_test_says(tmp_path: Path) -> None:
    settings, _ = settings_for("unused:1", "check", tmp_path, **PLAN)
    log: Sequence[Sequence[Record]] = make_log(settings.topics.predictions, 3, per_window=10)
    assert sum(map(len, log)) == N_WINDOWS * (2 * 10 + 2) + 3 * DECIDING
