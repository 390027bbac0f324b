"""The bare consumer of the peers that do without Faust."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from meter import Stopwatch, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from job import Job


async def consume(job: Job, take: Callable[[int, list[Any]], None]) -> None:
    """Hand over the records of each partition and poll until all of the job's are taken; measure it.

    Parameters
    ----------
    job
        Which log, and how many records of it.
    take
        Is given a partition and its records, as one fetch brought them.
    """
    consumer = AIOKafkaConsumer(bootstrap_servers=job.bootstrap, group_id=None, enable_auto_commit=False)
    await consumer.start()
    partitions = [TopicPartition(job.topic, partition) for partition in range(job.partitions)]
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    settle()
    stopwatch, seen = Stopwatch(), 0
    while seen < job.records:
        for place, records in (await consumer.getmany(timeout_ms=1000)).items():
            take(place.partition, records)
            seen += len(records)
            stopwatch.saw(len(records))
    stopwatch.stop()
    await consumer.stop()
