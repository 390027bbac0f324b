"""A real Kafka of the benchmark's own, its topics, and logs produced into it before any clock starts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from generator import Work, values

from driftline.streams.kafka.topics import STAMPED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "kafka"
BATCH_BYTES = 500_000


@contextmanager
def kafka(directory: Path) -> Iterator[str]:
    """Run a broker while the block runs; yield its bootstrap address."""
    script = [sys.executable, str(SCRIPT)]
    try:
        up = subprocess.run(
            [*script, "up", "--dir", directory, "--port", "0"], check=True, stdout=subprocess.PIPE, text=True
        )
        yield up.stdout.strip()
    finally:
        subprocess.run([*script, "down", "--dir", directory], check=True)


def produce(bootstrap: str, topic: str, partitions: int, work: Work) -> int:
    """Make a topic and write a log into it, records in turn over the partitions; return its bytes."""
    return asyncio.run(_produce(bootstrap, topic, partitions, work))


async def _produce(bootstrap: str, topic: str, partitions: int, work: Work) -> int:
    await create(bootstrap, topic, partitions)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks=1, max_batch_size=BATCH_BYTES) as producer:
        builders = [producer.create_batch() for _ in range(partitions)]
        sent, size = [], 0
        for place, value in enumerate(values(work)):
            partition, size = place % partitions, size + len(value)
            if builders[partition].append(key=None, value=value, timestamp=None) is None:
                sent.append(await producer.send_batch(builders[partition], topic, partition=partition))
                builders[partition] = producer.create_batch()
                builders[partition].append(key=None, value=value, timestamp=None)
        for partition, builder in enumerate(builders):
            sent.append(await producer.send_batch(builder, topic, partition=partition))
        await asyncio.gather(*sent)
    return size


async def create(bootstrap: str, topic: str, partitions: int) -> None:
    """Make a topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=STAMPED)])
    finally:
        await admin.close()


def delete(bootstrap: str, topic: str) -> None:
    """Delete a topic, so that its log does not fill the disk."""
    asyncio.run(_delete(bootstrap, topic))


async def _delete(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topic])
    finally:
        await admin.close()


def publish(bootstrap: str, topic: str, found: Sequence[tuple[bytes, bytes]]) -> None:
    """Write (key, value) pairs and wait for their acknowledgement."""
    asyncio.run(_publish(bootstrap, topic, found))


async def _publish(bootstrap: str, topic: str, found: Sequence[tuple[bytes, bytes]]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await asyncio.gather(*[await producer.send(topic, value, key=key) for key, value in found])
