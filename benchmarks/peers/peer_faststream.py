"""FastStream, one message at a time through a subscriber, with the naive arithmetic."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from faststream import FastStream
from faststream.kafka import KafkaBroker
from job import Job
from meter import Stopwatch
from naive import NaiveModel


def main(job: Job) -> None:
    """Consume the job's records and end the process."""
    broker = KafkaBroker(job.bootstrap)
    models = {(found["model"], found["version"]): NaiveModel(found) for found in job.baselines()}
    stopwatch, seen = Stopwatch(), 0

    @broker.subscriber(job.topic, group_id=job.group, auto_offset_reset="earliest")
    async def observe(record: dict[str, Any]) -> None:
        nonlocal seen
        models[record["model"], record["version"]].observe(record)
        seen += 1
        stopwatch.saw(1)
        if seen == job.records:
            stopwatch.stop()
            os._exit(0)  # the clock has stopped: no need to leave the group in good order

    asyncio.run(FastStream(broker).run())


if __name__ == "__main__":
    main(Job.read(sys.argv[1]))
