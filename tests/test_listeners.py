from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from driftline.streams.config.settings import Kafka
from driftline.streams.demo.embedded import embedded_broker
from driftline.streams.kafka.connection import KafkaUnreachable, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REAL, UNKNOWN, REFUSING = b"127.0.0.1", b"k.invalid", b"127.0.0.2"
"""Names of equal length, so that one can be written over the other in an answer; nobody may ever register the second,
and at the third nobody listens."""


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: bytes) -> None:
    while piece := await reader.read(65_536):
        writer.write(piece.replace(REAL, name))
        await writer.drain()
    writer.close()


@asynccontextmanager
async def renamed(bootstrap_servers: str, name: bytes) -> AsyncIterator[str]:
    """Stand before a broker and let its answers tell another host name."""
    host, _, port = bootstrap_servers.rpartition(":")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(
            _pump(reader, inner_writer, REAL), _pump(inner_reader, writer, name), return_exceptions=True
        )

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.embedded
@pytest.mark.parametrize("nowhere", [UNKNOWN, REFUSING])
@pytest.mark.parametrize("client", [AIOKafkaProducer, AIOKafkaConsumer, AIOKafkaAdminClient])
def test_a_listener_where_nobody_is_is_named_with_the_brokers_setting(client: type, nowhere: bytes) -> None:
    async def connect(name: bytes) -> None:
        async with (
            renamed(broker.bootstrap_servers, name) as front,
            opened(client, Kafka(bootstrap_servers=front)),
        ):
            pass

    port = ""
    with embedded_broker({}) as broker:
        port = broker.bootstrap_servers.rpartition(":")[2]
        with pytest.raises(
            KafkaUnreachable, match=rf"{re.escape(nowhere.decode())}:{port} \(.+\); set advertised\.listeners"
        ) as caught:
            asyncio.run(connect(nowhere))
        assert "check the address" not in str(caught.value)
        asyncio.run(connect(REAL))  # the same way, with the right name, leads in


@pytest.mark.embedded
def test_a_broker_of_several_that_can_not_be_reached_stops_nobody() -> None:
    async def topics() -> list[str]:
        kafka = Kafka(bootstrap_servers=broker.bootstrap_servers.split(",")[0])
        async with opened(AIOKafkaAdminClient, kafka) as admin:
            return list(await admin.list_topics())

    with embedded_broker({"here": 1}, brokers=3) as broker:
        broker.set_down(2)
        assert asyncio.run(topics()) == ["here"]


@pytest.mark.embedded
def test_a_broker_that_goes_away_is_no_wrong_listener() -> None:
    async def lose() -> None:
        async with opened(AIOKafkaAdminClient, Kafka(bootstrap_servers=broker.bootstrap_servers)) as admin:
            broker.set_down(1)
            async with asyncio.timeout(5):
                await admin.list_consumer_groups()

    with embedded_broker({}) as broker, pytest.raises((KafkaUnreachable, TimeoutError)) as caught:
        asyncio.run(lose())
    assert not re.search(r"advertised", str(caught.value))
