from __future__ import annotations

import asyncio
import importlib.util
import json
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError

from driftline.detectors.errors import OperatorError
from driftline.streams.demo.embedded import EmbeddedBroker, embedded_broker

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(importlib.util.find_spec("confluent_kafka") is None, reason="needs driftline[embedded]"),
]

NOT_LEADER, TOPIC_AUTHORIZATION_FAILED = 6, 29


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with embedded_broker({"predictions": 3}) as running:
        yield running


async def produce(broker: EmbeddedBroker, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
        for value in values:
            await producer.send_and_wait("predictions", value, partition=1)


async def consume(broker: EmbeddedBroker, count: int) -> list[tuple[int, bytes]]:
    """Offsets and values of the next `count` records of the group, committed."""
    consumer = AIOKafkaConsumer(
        "predictions",
        bootstrap_servers=broker.bootstrap_servers,
        group_id="readers",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=1_100,  # a second rebalance takes a second less here
        heartbeat_interval_ms=300,
    )
    async with consumer:
        records = [await consumer.getone() for _ in range(count)]
        await consumer.commit()
    return [(record.offset, record.value) for record in records]


def is_listening(broker: EmbeddedBroker) -> bool:
    host, port = broker.bootstrap_servers.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except ConnectionRefusedError:
        return False
    return True


def test_topics_have_the_partitions_that_were_asked_for() -> None:
    async def partitions(bootstrap_servers: str) -> list[int]:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers) as producer:
            return [len(await producer.partitions_for(topic)) for topic in ("predictions", "alerts", "later")]

    with embedded_broker({"predictions": 32, "alerts": 1}) as broker:
        broker.create_topic("later", 7)
        assert asyncio.run(partitions(broker.bootstrap_servers)) == [32, 1, 7]


def test_a_topic_is_made_once(broker: EmbeddedBroker) -> None:
    with pytest.raises(OperatorError, match=r"create_topic.*already exists"):
        broker.create_topic("predictions", 3)


def test_several_nodes_are_several_addresses() -> None:
    with embedded_broker({"predictions": 3}, brokers=3) as broker:
        assert len(set(broker.bootstrap_servers.split(","))) == 3
        asyncio.run(produce(broker, b"first"))
        assert asyncio.run(consume(broker, 1)) == [(0, b"first")]


def test_a_group_goes_on_where_it_committed(broker: EmbeddedBroker) -> None:
    asyncio.run(produce(broker, b"first", b"second", b"third"))
    assert asyncio.run(consume(broker, 2)) == [(0, b"first"), (1, b"second")]
    assert asyncio.run(consume(broker, 1)) == [(2, b"third")]


def test_injected_errors_hit_one_request_each_and_pass(broker: EmbeddedBroker) -> None:
    broker.push_errors("Produce", [NOT_LEADER, NOT_LEADER, TOPIC_AUTHORIZATION_FAILED])
    # The client tries again after the first two, so that only the third comes through; the fourth request is answered.
    with pytest.raises(TopicAuthorizationFailedError):
        asyncio.run(produce(broker, b"refused"))
    asyncio.run(produce(broker, b"taken"))
    assert asyncio.run(consume(broker, 1)) == [(0, b"taken")]


def test_an_error_is_pending_until_it_meets_a_request_at_its_node() -> None:
    with embedded_broker({"predictions": 3}, brokers=2) as broker:
        broker.move_leader("predictions", 1, 2)
        broker.push_errors("Produce", [NOT_LEADER, 0], node=2)
        broker.push_errors("Produce", [NOT_LEADER], node=1)
        assert broker.pending_errors("Produce", node=2) == 2
        asyncio.run(produce(broker, b"taken"))
        assert broker.pending_errors("Produce", node=2) == 0
        assert broker.pending_errors("Produce", node=1) == 1


def test_a_group_goes_on_at_the_coordinator_that_it_was_moved_to() -> None:
    with embedded_broker({"predictions": 3}, brokers=2) as broker:
        asyncio.run(produce(broker, b"first", b"second"))
        for offset, node in enumerate((1, 2)):
            broker.move_coordinator("readers", node)
            broker.push_errors("OffsetCommit", [0], node=node)
            assert [found for found, _ in asyncio.run(consume(broker, 1))] == [offset]
            assert broker.pending_errors("OffsetCommit", node=node) == 0


def test_an_error_for_an_unknown_request_is_refused(broker: EmbeddedBroker) -> None:
    with pytest.raises(ValueError, match="'Produced' is none of Produce, Fetch"):
        broker.push_errors("Produced", [NOT_LEADER])


def test_a_node_goes_down_and_comes_back_with_its_records(broker: EmbeddedBroker) -> None:
    asyncio.run(produce(broker, b"first"))
    broker.set_down(1)
    assert not is_listening(broker)
    broker.set_up(1)
    assert asyncio.run(consume(broker, 1)) == [(0, b"first")]


def test_a_consumer_survives_its_node_going_down_and_up(broker: EmbeddedBroker) -> None:
    async def scenario() -> bytes:
        async with AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers) as consumer:
            consumer.assign([TopicPartition("predictions", 1)])
            await consumer.seek_to_beginning()
            await produce(broker, b"before")
            assert (await consumer.getone()).value == b"before"
            broker.set_down(1)
            broker.set_up(1)
            await produce(broker, b"after")
            return bytes((await consumer.getone()).value)

    assert asyncio.run(scenario()) == b"after"


def test_an_unknown_node_is_refused(broker: EmbeddedBroker) -> None:
    with pytest.raises(OperatorError, match=r"set_down \(2,\): .*not available"):
        broker.set_down(2)


def test_nothing_is_left_after_the_with_statement() -> None:
    def leave_early() -> None:
        with embedded_broker({}) as broker:
            seen.append(broker)
            assert is_listening(broker)
            raise KeyError

    seen: list[EmbeddedBroker] = []
    with pytest.raises(KeyError):
        leave_early()
    (broker,) = seen
    assert broker._child.returncode == 0
    assert not is_listening(broker)


def test_a_broker_that_died_is_told() -> None:
    with embedded_broker({}) as broker:
        broker._child.kill()
        broker._child.wait()
        with pytest.raises((OperatorError, BrokenPipeError)):
            broker.set_down(1)


def test_nothing_is_left_when_the_parent_is_killed() -> None:
    parent = """if True:
        import os, signal
        from driftline.streams.demo.embedded import embedded_broker
        with embedded_broker({}) as broker:
            os.write(1, broker.bootstrap_servers.encode())
            os.kill(os.getpid(), signal.SIGKILL)
    """
    # The child inherits the parent's standard error: its end is reached when both have ended.
    ended = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    host, port = ended.stdout.split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=10)


def test_a_missing_package_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)  # how Python says: not to be had
    with pytest.raises(OperatorError, match=r"pip install 'driftline\[embedded\]'"), embedded_broker({}):
        pass


def test_a_library_that_does_not_load_is_an_answer_not_a_traceback() -> None:
    child = [sys.executable, "-m", "driftline.streams.demo.mock_cluster", "/nowhere/librdkafka.so", "1"]
    ended = subprocess.run(child, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert "/nowhere/librdkafka.so" in json.loads(ended.stdout)["error"]
    assert not ended.stderr
