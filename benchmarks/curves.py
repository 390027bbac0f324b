"""Cost curves: what a record costs a worker with more features, models or partitions, and what else sizing needs.

    make curves        or        .venv/bin/python benchmarks/curves.py [--records N] [--rounds N]

As in run.py, broker and harness have one core and the worker another, and logs are produced before the clock starts.
Besides the curves it measures the latency from event to alert, the memory of a model version in a partition, and the
cost of snapshots and metrics. It writes docs/curves.json, docs/curves.svg and the figures in docs/benchmarks.md and
docs/sizing.md; ``--render`` writes these anew from docs/curves.json without measuring anything.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import latency
from cluster import delete, kafka, produce
from curves_report import publish_curves
from generator import Work, baselines
from job import Job
from report import machine
from upkeep import upkeep
from worker import drain, workers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meter import Measured

HERE = Path(__file__).resolve().parent
LOADS = (0.1, 0.5, 0.9)


@dataclass(frozen=True, order=True)
class Setting:
    """One point of the curves.

    Parameters
    ----------
    features
        Of a record; three in four are numeric.
    models, partitions
        Of the log.
    window_records
        Records, of all models, in a window.
    max_batch_records
        The worker's configuration.
    """

    features: int = 20
    models: int = 1
    partitions: int = 4
    window_records: int = 100_000
    max_batch_records: int = 10_000

    @property
    def log(self) -> tuple[int, ...]:
        """What a log is made by."""
        return (self.features, self.models, self.partitions, self.window_records)

    def work(self, records: int) -> Work:
        """The log: of many features fewer records, so that points take similar times."""
        numeric = self.features * 3 // 4 + (self.features < 20)
        return Work(
            records * 20 // max(20, self.features),
            numeric,
            self.features - numeric,
            self.models,
            window_records=self.window_records,
        )


def main(arguments: list[str]) -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=800_000, help="records of a log (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each point (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load (default %(default)s)")
    parser.add_argument("--docs", type=Path, default=HERE.parent / "docs", help="where to write (default docs/)")
    parser.add_argument("--render", action="store_true", help="write the pages anew from what was measured before")
    options = parser.parse_args(arguments)
    if not options.render:
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            sys.exit("this machine lends one core only: broker and worker would fight for it")
        os.sched_setaffinity(0, {cores[0]})  # the broker inherits it
        document = measured(options.records, options.rounds, options.seconds, cores)
        (options.docs / "curves.json").write_text(json.dumps(document, indent=1) + "\n")
    publish_curves(options.docs)


def measured(records: int, rounds: int, seconds: float, cores: list[int]) -> dict[str, Any]:
    """Measure all of it; the result is docs/curves.json."""
    with tempfile.TemporaryDirectory(prefix="driftline-curves-") as name, kafka(Path(name)) as bootstrap:
        job = Job(bootstrap, "", 0, 0, "", name)
        points = [
            point
            for _, found in groupby(sorted(settings()), key=lambda setting: setting.log)
            for point in run_log(job, list(found), records, rounds, cores)
        ]
        most = next(point["rate"] for point in points if point["setting"] == asdict(Setting()))
        return {
            "machine": machine(),
            "work": {"records": records, "rounds": rounds, "seconds": seconds},
            "curves": {name: [asdict(setting) for setting in found] for name, found in CURVES.items()},
            "points": points,
            "upkeep": measured_upkeep(job, records, cores),
            "cells": measured_cells(cores),
            "latency": [measured_latency(job, load, most, seconds, cores) for load in LOADS],
        }


def settings() -> set[Setting]:
    """Every setting that some curve needs."""
    return {setting for found in CURVES.values() for setting in found}


def run_log(job: Job, found: Iterable[Setting], records: int, rounds: int, cores: list[int]) -> list[dict[str, Any]]:
    """Produce a log, and measure the settings that share it."""
    points = []
    logged = None
    for setting in found:
        logged = logged or prepared(job, setting, records)
        runs = [one_run(logged, setting, turn, cores) for turn in range(rounds)]
        points.append(point(setting, runs))
        say(f"{setting}: {points[-1]['cpu_us']:.2f} us CPU, {points[-1]['rate']:,.0f} records/s")
    if logged:
        delete(job.bootstrap, logged.topic)
    return points


def prepared(job: Job, setting: Setting, records: int) -> Job:
    """The job of a log that has been produced, its baselines written down."""
    topic, work = "-".join(["log", *map(str, setting.log)]), setting.work(records)
    (Path(job.directory) / "baselines.jsonl").write_bytes(b"\n".join(each.to_json() for each in baselines(work)))
    produce(job.bootstrap, topic, setting.partitions, work)
    return replace(job, topic=topic, partitions=setting.partitions, records=work.records)


def one_run(job: Job, setting: Setting, turn: int, cores: list[int]) -> Measured:
    """Run a worker over a log."""
    group = f"{job.topic}-{setting.max_batch_records}-{turn}"
    extra = f"max_batch_records = {setting.max_batch_records}\n"
    with workers(replace(job, group=group), [{cores[1]}], extra) as (worker,):
        return drain(worker, job.records)


def point(setting: Setting, runs: list[Measured]) -> dict[str, Any]:
    """What a point's runs say; the cheapest run is the one that its neighbours disturbed least."""
    best = min(runs, key=lambda run: run.cpu_us)
    return {
        "setting": asdict(setting),
        "cpu_us": round(best.cpu_us, 3),
        "rate": round(max(run.rate for run in runs)),
        "peak_mb": round(best.peak_mb, 1),
        "batch_records": round(best.records / max(1, best.batches)),
        "runs_cpu_us": [round(run.cpu_us, 3) for run in runs],
    }


def measured_upkeep(job: Job, records: int, cores: list[int]) -> dict[str, float]:
    """Measure what snapshots and metrics cost with 100 models on 8 partitions."""
    logged = prepared(job, FLEET, records)
    try:
        found = upkeep(logged, cores)
    finally:
        delete(job.bootstrap, logged.topic)
    say(f"snapshots and metrics: {found}")
    return found


def measured_cells(cores: list[int]) -> dict[str, int]:
    """Measure the memory of a cell, in a process of its own."""
    process = subprocess.Popen([sys.executable, str(HERE / "cells.py")], stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(process.pid, {cores[1]})
    output, _ = process.communicate(timeout=300)
    found: dict[str, int] = json.loads(output)
    say(f"a cell: {found}")
    return found


def measured_latency(job: Job, load: float, most: float, seconds: float, cores: list[int]) -> dict[str, float | None]:
    """Measure latencies at a share of the highest rate."""
    base = Setting()
    (Path(job.directory) / "baselines.jsonl").write_bytes(baselines(base.work(1))[0].to_json())
    place = f"load-{100 * load:.0f}"
    here = replace(job, topic=place, group=f"{place}-worker", partitions=base.partitions)
    found = {"load": load} | latency.measure(here, cores, load * most, seconds)
    say(f"latency: {found}")
    return found


def say(text: str) -> None:
    """Tell of progress."""
    print(text, file=sys.stderr, flush=True)


BASE = Setting()
FLEET = replace(BASE, models=100, partitions=8)
CURVES = {
    "features": [replace(BASE, features=features) for features in (5, 20, 100)],
    "models": [replace(BASE, models=models) for models in (1, 10, 100, 500)],
    "partitions": [replace(BASE, partitions=partitions) for partitions in (4, 16, 32)],
    "max_batch_records": [replace(BASE, max_batch_records=batch) for batch in (100, 1_000, 4_000, 10_000)],
    "window_records": [replace(BASE, models=100, window_records=records) for records in (10_000, 100_000)],
    "fleet": [FLEET],
}
"""Each curve's settings; they share the base."""

if __name__ == "__main__":
    main(sys.argv[1:])
