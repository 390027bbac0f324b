from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from driftline.detectors.errors import OperatorError
from driftline.streams.config.settings import Kafka
from driftline.streams.demo.embedded import EmbeddedBroker, embedded_broker
from driftline.streams.kafka.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.embedded
MESSAGE_TOO_LARGE, TOPIC_AUTHORIZATION_FAILED = 10, 29


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with embedded_broker({"predictions": 2}) as running:
        yield running


def made(broker: EmbeddedBroker) -> Outbox:
    return Outbox(Kafka(bootstrap_servers=broker.bootstrap_servers), "predictions")


def test_leaving_waits_for_every_acknowledgement(broker: EmbeddedBroker) -> None:
    async def scenario() -> None:
        async with made(broker) as records:
            for number in range(1_000):
                await records.send(b"value", str(number).encode())
        assert (records.acknowledged, records.failed) == (1_000, 0)

    asyncio.run(scenario())


def test_a_failure_is_raised_once_by_whoever_waits(broker: EmbeddedBroker) -> None:
    async def scenario() -> None:
        async with made(broker) as records:
            broker.push_errors("Produce", [TOPIC_AUTHORIZATION_FAILED])
            await records.send(b"refused")
            with pytest.raises(OperatorError, match=r"1 records were not acknowledged: Kafka refused"):
                await records.flush()
            await records.send(b"taken")
            await records.flush()
            assert (records.acknowledged, records.failed) == (1, 1)

    asyncio.run(scenario())


def test_a_failure_that_its_sender_was_told_is_not_raised_again(broker: EmbeddedBroker) -> None:
    async def scenario() -> None:
        async with made(broker) as records:
            broker.push_errors("Produce", [TOPIC_AUTHORIZATION_FAILED])
            future = await records.send(b"refused")
            with pytest.raises(OperatorError, match=r"Kafka refused.*needs an ACL"):
                await records.settled(future)

    asyncio.run(scenario())


def test_leaving_raises_what_nobody_was_told(broker: EmbeddedBroker) -> None:
    async def scenario() -> None:
        async with made(broker) as records:
            broker.push_errors("Produce", [TOPIC_AUTHORIZATION_FAILED])
            await records.send(b"refused")

    with pytest.raises(OperatorError, match="1 records were not acknowledged"):
        asyncio.run(scenario())


def test_the_callers_own_error_is_not_covered_up(broker: EmbeddedBroker) -> None:
    async def scenario() -> None:
        async with made(broker) as records:
            broker.push_errors("Produce", [TOPIC_AUTHORIZATION_FAILED])
            await records.send(b"refused")
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(scenario())


def test_a_record_too_large_is_refused_alone(broker: EmbeddedBroker) -> None:
    async def scenario() -> None:
        async with made(broker) as records:
            with pytest.raises(OperatorError, match=r"larger than the maximum request size"):
                await records.send(b"x" * 2_000_000)
            await records.send(b"x" * 900_000)
        assert (records.acknowledged, records.failed) == (1, 1)

    asyncio.run(scenario())


def test_a_missing_topic_is_named_at_once(broker: EmbeddedBroker) -> None:
    async def scenario() -> None:
        async with Outbox(Kafka(bootstrap_servers=broker.bootstrap_servers), "prediction"):
            pass

    for _ in range(2):  # the embedded broker makes a topic when it is asked for by name
        with pytest.raises(OperatorError, match=r"topic 'prediction' does not exist: .*driftline topics create"):
            asyncio.run(scenario())
