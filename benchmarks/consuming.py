"""The bare consumer of the peers that do without Faust and other frameworks."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from meter import Stopwatch, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from job import Job


@asynccontextmanager
async def reading(job: Job) -> AsyncIterator[AIOKafkaConsumer]:
    """Read a log from its beginning, in no group."""
    async with AIOKafkaConsumer(bootstrap_servers=job.bootstrap, group_id=None, enable_auto_commit=False) as consumer:
        partitions = [TopicPartition(job.topic, partition) for partition in range(job.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        yield consumer


async def consume(job: Job, take: Callable[[int, list[Any]], None]) -> None:
    """Hand over the records of each partition and poll until all of the job's are taken; measure it.

    Parameters
    ----------
    job
        Which log, and how many records of it.
    take
        Is given a partition and its records, as one fetch brought them.
    """
    async with reading(job) as consumer:
        settle()
        stopwatch, seen = Stopwatch(), 0
        while seen < job.records:
            for place, records in (await consumer.getmany(timeout_ms=1000)).items():
                take(place.partition, records)
                seen += len(records)
                stopwatch.saw(len(records))
        stopwatch.stop()
