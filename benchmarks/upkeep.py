"""What snapshots and metrics cost a worker that watches a hundred models.

Snapshots every ten seconds vanish in the noise of two runs. So one run saves every second and one never does: the
difference, by the number of snapshots, is what one costs, and that, times their number under the shipped interval, is
their share of a core. Sampling the worker's stacks would leave out what the changelog's producer and the garbage
collector do on behalf of a snapshot. A scrape is measured on a worker that rests.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from meter import cpu_seconds
from worker import drain, workers

from driftline.streams.config.settings import Worker as WorkerSettings

if TYPE_CHECKING:
    from job import Job
    from meter import Measured
    from worker import Worker

OFTEN_S, NEVER_S = 1, 3_600
SCRAPES = 10
SCRAPE_INTERVAL_S = 15
"""Of a usual Prometheus."""
CHECKPOINTS = 'driftline_checkpoints_total{stage="profiling"}'


def upkeep(job: Job, cores: list[int]) -> dict[str, float]:
    """Measure both; the log is one of many models.

    Returns
    -------
    Milliseconds per partition's snapshot and per scrape, and shares of a core.
    """
    never, _, scrape_ms = _run(job, cores, NEVER_S)
    often, checkpoints, _ = _run(job, cores, OFTEN_S)
    checkpoint_ms = 1e-3 * (often.cpu_us - never.cpu_us) * job.records / checkpoints
    interval_s = WorkerSettings().snapshot_interval_s
    return {
        "checkpoint_ms": round(checkpoint_ms, 2),
        "scrape_ms": round(scrape_ms, 2),
        "snapshot_share": round(checkpoint_ms / 1000 * job.partitions / interval_s, 4),
        "scrape_share": round(scrape_ms / 1000 / SCRAPE_INTERVAL_S, 4),
        "never_cpu_us": round(never.cpu_us, 3),
        "often_cpu_us": round(often.cpu_us, 3),
        "checkpoints": checkpoints,
    }


def _run(job: Job, cores: list[int], interval_s: int) -> tuple[Measured, float, float]:
    """Run a worker that saves so often; return the run, its snapshots and a scrape's cost."""
    extra = f"snapshot_interval_s = {interval_s}\n"
    with workers(replace(job, group=f"{job.topic}-every-{interval_s}"), [{cores[1]}], extra) as (worker,):
        measured = drain(worker, job.records)
        return measured, worker.metric(CHECKPOINTS), _scrape_ms(worker)


def _scrape_ms(worker: Worker) -> float:
    before = cpu_seconds(worker.process.pid)
    for _ in range(SCRAPES):
        worker.records()
    return 1000 * (cpu_seconds(worker.process.pid) - before) / SCRAPES
