"""What comes on topic ``baselines``: in force at once, held against the plan, and withdrawn by a tombstone."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import Plan, plan_from
from driftline.streams.demo.embedded import EmbeddedBroker, embedded_broker
from driftline.streams.engine.shared import Shared
from driftline.streams.kafka.recreated import ASKING, Lookup
from driftline.streams.observability.metrics import Metrics
from driftline.streams.worker.baseline_follower import BaselineFollower
from tests.fleet import Workers, publish, settings_for, topic_sizes
from tests.logs import churn, fraud, watching
from tests.test_outlier_profile import changed, valid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from driftline.detectors.documents.baseline import Baseline
    from driftline.streams.config.settings import Settings

NAME = "names"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    sizes = topic_sizes(settings_for("unused:1", NAME, tmp_path)[0], 1)
    with embedded_broker(sizes) as running:
        yield running


def settings(broker: EmbeddedBroker, tmp_path: Path, **plan: Any) -> tuple[Settings, Path]:
    return settings_for(broker.bootstrap_servers, NAME, tmp_path, **plan)


def log_of_one_start(config: Path, code: int) -> list[str]:
    with Workers(config) as fleet:
        assert fleet.start().wait(60) == code
        fleet.running.clear()
        (path,) = fleet.logs.values()
    return path.read_text().splitlines()


@pytest.mark.embedded
def test_a_plan_with_a_misspelt_signal_is_refused_at_the_start(broker: EmbeddedBroker, tmp_path: Path) -> None:
    own, config = settings(broker, tmp_path)
    asyncio.run(publish(own, [churn()], []))
    config.write_text(config.read_text() + "plan.models.churn.signals.agee.detectors.range.low = 0.0\n")
    lines = log_of_one_start(config, 2)
    (refusal,) = [line for line in lines if line.startswith("driftline: ")]
    assert "plan.models.churn.signals.agee: no baseline of model 'churn' has this signal; did you mean age?" in refusal
    assert not any("Traceback" in line for line in lines)


@pytest.mark.embedded
def test_a_baseline_that_comes_later_without_the_plans_signal_is_told_once(
    broker: EmbeddedBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own, _ = settings(broker, tmp_path)
    plan = plan_from({"models": {"churn": {"signals": {"agee": {}}}}})
    shared = Shared(Watch(plan), 1, 1, 2**20, Metrics("1.0"))

    async def scenario() -> None:
        async with AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers) as consumer:
            follower = BaselineFollower(
                consumer, own.topics.baselines, 1, shared, Lookup(None, Metrics("0").contradictions)
            )
            await follower.catch_up()
            following = asyncio.create_task(follower.follow())
            for models, known in (([churn("1")], 1), ([churn("2")], 2), ([fraud()], 3)):
                await publish(own, models, [])
                while len(shared.watch.layouts) < known:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0)
            following.cancel()

    with caplog.at_level(logging.WARNING, "driftline.streams.worker.baseline_follower"):
        asyncio.run(asyncio.wait_for(scenario(), 60))
    told = [record.getMessage() for record in caplog.records]
    assert told[0].startswith("plan.models.churn: no baseline is of model 'churn'; there is no baseline yet")
    assert sum("signals.agee" in message for message in told) == 1


@pytest.mark.embedded
def test_a_worker_whose_port_is_taken_says_so_in_one_line_and_one_without_a_port_starts(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    _, config = settings(broker, tmp_path)
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        asked = config.read_text().replace("worker.metrics_port = 0", f"worker.metrics_port = {port}")
        config.write_text(asked)
        lines = log_of_one_start(config, 2)
    assert not any("Traceback" in line for line in lines)
    (refusal,) = [line for line in lines if line.startswith("driftline: ")]
    assert f"worker.metrics_port = {port}: is taken" in refusal
    config.write_text("".join(line for line in asked.splitlines(keepends=True) if "metrics_port" not in line))
    with Workers(config) as fleet:
        for _ in range(2):
            fleet.start()
        while not all("metrics on http://127.0.0.1:91" in path.read_text() for path in fleet.logs.values()):
            assert all(process.poll() is None for process in fleet.running)
            time.sleep(0.05)
        assert fleet.stop() == [0, 0]
        assert any("is taken, by another worker perhaps" in path.read_text() for path in fleet.logs.values())


@dataclass
class Record:
    key: bytes | None
    value: bytes | None
    partition: int = 0
    offset: int = 0


def following(*known: Baseline) -> tuple[BaselineFollower, Shared]:
    shared = Shared(watching(Plan(), *known), 1, 1, 2**20, Metrics("test"))
    return BaselineFollower(None, "baselines", 1, shared, Lookup(None, Metrics("0").contradictions)), shared


def watched(shared: Shared) -> float | None:
    return shared.metrics.registry.get_sample_value("driftline_models_watched")


def test_a_tombstone_withdraws_its_model_version_alone_while_the_worker_runs() -> None:
    follower, shared = following(churn("1"), churn("2"), fraud())
    follower._take_one(Record(b"churn|1", None))
    assert shared.watch.layouts.keys() == {("churn", "2"), ("fraud", "1")}
    assert shared.watch.retired == {("churn", "1")}
    assert watched(shared) == 2
    follower._take_one(Record(b"churn|1", churn("1").to_json()))
    assert shared.watch.retired == frozenset()
    assert watched(shared) == 3


@pytest.mark.parametrize("key", [None, b"", b"churn", b"|1", b"churn|1|x"])
def test_a_tombstone_of_nobody_changes_nothing(key: bytes | None) -> None:
    follower, shared = following(churn("1"))
    before = shared.watch
    follower._take_one(Record(key, None))
    assert shared.watch is before


def test_a_tombstone_retires_a_model_version_whose_baseline_compaction_took() -> None:
    """A state that was saved before may have open alerts on it."""
    follower, shared = following(churn("1"))
    follower._take_one(Record(b"ghost|1", None))
    assert shared.watch.retired == {("ghost", "1")}
    assert shared.watch.layouts.keys() == {("churn", "1")}


@pytest.mark.kafka
def test_a_state_is_not_restored_before_the_baselines_that_were_published_until_then_are_known(kafka: str) -> None:
    async def play() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        producer, consumer = (
            AIOKafkaProducer(bootstrap_servers=kafka),
            AIOKafkaConsumer(bootstrap_servers=kafka),
        )
        for client in (admin, producer, consumer):
            await client.start()
        try:
            await admin.create_topics([NewTopic("caught-up", 2, 1)])
            shared = Shared(watching(Plan()), 1, 1, 2**20, Metrics("test"))
            follower = BaselineFollower(consumer, "caught-up", 2, shared, Lookup(None, Metrics("0").contradictions))
            await follower.catch_up()
            following = asyncio.create_task(follower.follow())
            for baseline in (churn("1"), churn("2"), fraud()):
                await producer.send_and_wait("caught-up", baseline.to_json(), baseline.model.encode())
                await follower.caught_up()
                assert (baseline.model, baseline.version) in shared.watch.layouts
            following.cancel()
        finally:
            for client in (consumer, producer, admin):
                await (client.close() if client is admin else client.stop())

    asyncio.run(play())


@pytest.mark.kafka
@pytest.mark.parametrize("n", [1, 3])
def test_baselines_that_were_deleted_and_made_again_are_read_from_their_beginning(kafka: str, n: int) -> None:
    """The new log ends before the offset that had been read, or beyond it."""
    topic = f"made-again-{n}"

    async def play() -> None:
        async with AsyncExitStack() as stack:
            admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
            producer = AIOKafkaProducer(bootstrap_servers=kafka)
            consumer = AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")
            asking = AIOKafkaConsumer(bootstrap_servers=kafka, **ASKING)
            for client in (admin, producer, consumer, asking):
                await client.start()
                stack.push_async_callback(client.close if client is admin else client.stop)

            async def make(*known: Baseline) -> None:
                await admin.create_topics([NewTopic(topic, 1, 1)])
                for baseline in known:
                    await producer.send_and_wait(topic, baseline.to_json(), baseline.model.encode())

            await make(churn("1"), churn("2"))
            shared = Shared(watching(Plan()), 1, 1, 2**20, Metrics("test"))
            follower = BaselineFollower(consumer, topic, 1, shared, Lookup(asking, Metrics("0").contradictions))
            await follower.catch_up()
            following = asyncio.create_task(follower.follow())
            await admin.delete_topics([topic])
            while topic in await admin.list_topics():
                pass
            await make(fraud(), *[churn(f"new {place}") for place in range(n - 1)])
            async with asyncio.timeout(120):
                while ("fraud", "1") not in shared.watch.layouts:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            assert len(shared.watch.layouts) >= 3
            following.cancel()

    asyncio.run(play())


@pytest.mark.parametrize("place", ["leaves", "tail", "features"])
def test_a_sealed_baseline_with_a_damaged_profile_is_counted_and_the_next_one_taken(place: str) -> None:
    value = {"leaves": "AAAA", "tail": [], "features": ["x", "y", "nobody"]}[place]
    follower, shared = following()
    for offset, raw in enumerate([changed(f"outliers.{place}", value), b"{}", valid()]):
        follower._take_one(Record(b"m|1", raw, 0, offset))
        assert len(shared.watch.layouts) == (offset == 2)
    [refused] = [
        sample.value
        for metric in shared.metrics.refused_baselines.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    ]
    assert refused == 2
    assert orjson.loads(valid())["hash"] == shared.watch.layouts["m", "1"][0].baseline.hash
