"""What comes on topic ``baselines`` is in force at once, and what a tombstone withdraws is not any more."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from driftline.detectors.plan import Plan
from driftline.streams.baselines import BaselineFollower
from driftline.streams.metrics import Metrics
from driftline.streams.stages import Shared
from tests.logs import churn, fraud, watching

if TYPE_CHECKING:
    from driftline.detectors.baseline import Baseline


@dataclass
class Record:
    key: bytes | None
    value: bytes | None
    partition: int = 0
    offset: int = 0


def following(*known: Baseline) -> tuple[BaselineFollower, Shared]:
    shared = Shared(watching(Plan(), *known), 1, 1, 2**20, Metrics("test"))
    return BaselineFollower(None, "baselines", 1, shared), shared


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


@pytest.mark.parametrize("key", [None, b"", b"churn", b"ghost|1", b"\xff|1", b"churn|1|x"])
def test_a_tombstone_of_nobody_changes_nothing(key: bytes | None) -> None:
    follower, shared = following(churn("1"))
    before = shared.watch
    follower._take_one(Record(key, None))
    assert shared.watch is before


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
            follower = BaselineFollower(consumer, "caught-up", 2, shared)
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
