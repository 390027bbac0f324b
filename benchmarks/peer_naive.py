"""The peer to beat: the naive arithmetic in a plain Faust agent, one event at a time."""

from __future__ import annotations

import os
import sys
from typing import Any

import faust
from job import Job
from meter import Stopwatch
from naive import NaiveModel


def main(job: Job) -> None:
    """Consume the job's records and end the process."""
    app = faust.App(
        job.group,
        broker=f"kafka://{job.bootstrap}",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
        value_serializer="json",
        datadir=job.directory,
        worker_redirect_stdouts=False,
    )
    models = {(found["model"], found["version"]): NaiveModel(found) for found in job.baselines()}
    stopwatch, seen = Stopwatch(), 0

    async def agent(stream: Any) -> None:
        nonlocal seen
        async for record in stream:
            models[record["model"], record["version"]].observe(record)
            seen += 1
            stopwatch.saw(1)
            if seen == job.records:
                stopwatch.stop()
                os._exit(0)  # the clock has stopped: no need to leave the group in good order

    app.agent(app.topic(job.topic))(agent)
    faust.Worker(app, loglevel="error").execute_from_commandline()


if __name__ == "__main__":
    main(Job.read(sys.argv[1]))
