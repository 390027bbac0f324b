from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from driftline.detectors.errors import OperatorError
from driftline.streams.config.settings import Kafka
from driftline.streams.demo.embedded import EmbeddedBroker, embedded_broker
from driftline.streams.kafka.connection import opened
from driftline.streams.kafka.reader import Start, TopicReader

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.embedded


class Note(msgspec.Struct, frozen=True):
    number: int


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with embedded_broker({"notes": 2}) as running:
        yield running


async def write(broker: EmbeddedBroker, *records: tuple[int, bytes | None]) -> None:
    async with opened(AIOKafkaProducer, Kafka(bootstrap_servers=broker.bootstrap_servers)) as producer:
        for partition, value in records:
            await producer.send_and_wait("notes", value, key=b"key", partition=partition)


def note(number: int) -> bytes:
    return msgspec.json.encode(Note(number))


def read(broker: EmbeddedBroker, start: Start) -> list[int]:
    """Numbers of the notes up to the topic's end."""

    async def scenario() -> list[int]:
        async with TopicReader(broker.bootstrap_servers, "notes", Note, start, "end") as notes:
            return [each.number async for each in notes]

    return sorted(asyncio.run(scenario()))


def test_an_empty_topic_ends_at_once(broker: EmbeddedBroker) -> None:
    assert read(broker, "beginning") == []


def test_where_the_reading_starts(broker: EmbeddedBroker) -> None:
    asyncio.run(write(broker, *((0, note(number)) for number in range(5)), (1, note(10)), (1, note(11))))
    assert read(broker, "beginning") == [0, 1, 2, 3, 4, 10, 11]
    assert read(broker, 3) == [2, 3, 4, 10, 11]  # of each partition
    assert read(broker, "end") == []


def test_deletions_and_foreign_records_are_passed_over_and_counted(broker: EmbeddedBroker) -> None:
    async def scenario() -> None:
        nested = b"[" * 100_000
        values = [b"\xff", b'{"number": "one"}', b"{", None, nested, note(1)]
        await write(broker, *((0, value) for value in values))
        async with TopicReader(broker.bootstrap_servers, "notes", Note, "beginning", "end") as notes:
            assert [each async for each in notes] == [Note(1)]
        assert notes.undecodable == 4

    asyncio.run(scenario())


def test_what_comes_after_the_end_is_not_read_unless_followed(broker: EmbeddedBroker) -> None:
    async def scenario() -> None:
        await write(broker, (0, note(1)))
        async with (
            TopicReader(broker.bootstrap_servers, "notes", Note, "beginning", "end") as old,
            TopicReader(broker.bootstrap_servers, "notes", Note, "end") as new,
        ):
            await write(broker, (0, note(2)), (0, note(3)))
            assert [each.number async for each in old] == [1]
            following = aiter(new)
            assert [(await anext(following)).number for _ in range(2)] == [2, 3]

    asyncio.run(scenario())


def test_a_missing_topic_is_named_and_not_made(broker: EmbeddedBroker) -> None:
    async def scenario() -> None:
        async with TopicReader(broker.bootstrap_servers, "nots", Note):
            pass

    for _ in range(2):  # the embedded broker makes a topic when it is asked for by name
        with pytest.raises(OperatorError, match=r"topic 'nots' does not exist: .*driftline topics create"):
            asyncio.run(scenario())
