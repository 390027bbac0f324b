"""A record that Kafka does not take for its size ends a worker by name, and never comes again and again."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from driftline.detectors.errors import OperatorError
from driftline.streams.formats.wire import Outgoing
from driftline.streams.worker.sink import KafkaSink

LIMITS = {"the broker's": 1000, "the client's": 2**22}
"""What is refused where: a topic takes no more than so many bytes, aiokafka no more than 1 MiB."""


@pytest.mark.kafka
@pytest.mark.parametrize("whose", LIMITS)
def test_a_record_that_is_too_large_is_refused_with_topic_size_and_remedy(kafka: str, whose: str) -> None:
    topic, limit = f"small-{LIMITS[whose]}", LIMITS[whose]
    size = 2000 if limit < 2000 else 2**21

    async def play() -> None:
        admin, producer = AIOKafkaAdminClient(bootstrap_servers=kafka), AIOKafkaProducer(bootstrap_servers=kafka)
        await admin.start()
        await producer.start()
        try:
            await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": str(limit)})])
            sink = KafkaSink(producer, {"windows": topic})
            await (await sink.send(Outgoing("windows", b"k", bytes(100))))
            await sink.send(Outgoing("windows", b"k", bytes(size)))
            await sink.failed
        finally:
            await producer.stop()
            await admin.close()

    with pytest.raises(OperatorError, match=rf"'{topic}'.* record of {size} bytes.*max\.message\.bytes to 1048588"):
        asyncio.run(play())
