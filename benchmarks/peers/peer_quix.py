"""Quix Streams, one message at a time through its streaming dataframe, with the naive arithmetic."""

from __future__ import annotations

import os
import sys
from typing import Any

from job import Job
from meter import Stopwatch
from naive import NaiveModel
from quixstreams import Application


def main(job: Job) -> None:
    """Consume the job's records and end the process."""
    app = Application(
        broker_address=job.bootstrap,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        loglevel="ERROR",
    )
    models = {(found["model"], found["version"]): NaiveModel(found) for found in job.baselines()}
    stopwatch, seen = Stopwatch(), 0

    def observe(record: dict[str, Any]) -> None:
        nonlocal seen
        models[record["model"], record["version"]].observe(record)
        seen += 1
        stopwatch.saw(1)
        if seen == job.records:
            stopwatch.stop()
            os._exit(0)  # the clock has stopped: no need to leave the group in good order

    frame = app.dataframe(app.topic(job.topic, value_deserializer="json"))
    frame.update(observe)
    app.run()


if __name__ == "__main__":
    main(Job.read(sys.argv[1]))
