"""Bytewax, batches of messages from its Kafka source, each record by itself through a map, with the naive arithmetic."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, run_main
from job import Job
from meter import Stopwatch
from naive import NaiveModel


def main(job: Job) -> None:
    """Consume the job's records and end the process."""
    models = {(found["model"], found["version"]): NaiveModel(found) for found in job.baselines()}
    stopwatch, seen = Stopwatch(), 0

    def observe(message: Any) -> None:
        nonlocal seen
        record = json.loads(message.value)
        models[record["model"], record["version"]].observe(record)
        seen += 1
        stopwatch.saw(1)
        if seen == job.records:
            stopwatch.stop()
            os._exit(0)  # the clock has stopped: nothing is left to be done

    flow = Dataflow("naive")
    messages = op.input("predictions", flow, KafkaSource([job.bootstrap], [job.topic]))
    op.output("nowhere", op.map("observe", messages, observe), TestingSink([]))
    run_main(flow)


if __name__ == "__main__":
    main(Job.read(sys.argv[1]))
