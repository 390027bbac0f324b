"""The worker's stage 1 without Kafka and Faust: values from memory, decoded and taken in by ``profiling.step``."""

from __future__ import annotations

import sys
from itertools import islice

from generator import START_MS, Work, values
from job import Job
from kafka_record import records_of
from meter import Stopwatch, settle

from driftline.detectors.documents.baseline import Baseline
from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import Plan
from driftline.detectors.windows import profiling
from driftline.detectors.windows.profiling import PartitionState
from driftline.streams.formats import wire

BATCH = 4_000


def main(job: Job) -> None:
    """Take in as many records as the job says, a batch at a time."""
    watch = Watch(Plan())
    for line in job.baseline_lines():
        watch = watch.with_baseline(Baseline.from_json(line))
    records = list(islice(records_of(values(Work(job.records)), START_MS), job.records))
    settle()
    state, stopwatch = PartitionState(0, 1), Stopwatch()
    for start in range(0, len(records), BATCH):
        batch, _ = wire.decode(records[start : start + BATCH], watch, 2**20)
        state, _ = profiling.step(state, batch, watch)
        stopwatch.saw(len(batch.predictions))
    stopwatch.stop()


if __name__ == "__main__":
    main(Job.read(sys.argv[1]))
