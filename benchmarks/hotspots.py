"""Where a worker spends its time: py-spy on a worker that reads a log from its own broker.

    .venv/bin/python benchmarks/hotspots.py --py-spy PATH [--models M] [--partitions P] [--lines]

py-spy belongs into an environment of its own (`pip install py-spy`). Printed are microseconds of one core per record, by
the function, or the line, that stood at the end of the stack; idle time is left out.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from cluster import kafka, produce
from generator import Work, baselines
from job import Job
from worker import follow, workers

SHOWN = 40
RATE_HZ = 400
SECONDS_PER_RECORD = 12e-6
"""About what a record takes: py-spy wants to know beforehand how long to look."""


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--py-spy", default=shutil.which("py-spy"), help="the program (default: on the PATH)")
    parser.add_argument("--records", type=int, default=1_000_000, help="records of the log (default %(default)s)")
    parser.add_argument("--models", type=int, default=1, help="(default %(default)s)")
    parser.add_argument("--partitions", type=int, default=4, help="(default %(default)s)")
    parser.add_argument("--lines", action="store_true", help="lines instead of functions")
    options = parser.parse_args(arguments)
    if options.py_spy is None:
        sys.exit("py-spy was not found: pip install it into an environment of its own, and give --py-spy PATH")
    work = Work(options.records, models=options.models)
    with tempfile.TemporaryDirectory(prefix="driftline-spy-") as name, kafka(Path(name)) as bootstrap:
        produce(bootstrap, "predictions", options.partitions, work)
        (Path(name) / "baselines.jsonl").write_bytes(b"\n".join(baseline.to_json() for baseline in baselines(work)))
        job = Job(bootstrap, "predictions", options.partitions, work.records, "hotspots", name)
        stacks, cpu_us = spied(job, options.py_spy)
    show(stacks, cpu_us, options.lines)


def spied(job: Job, py_spy: str) -> tuple[list[str], float]:
    """Return the sampled stacks, one a line with its count, and the microseconds of CPU per record."""
    raw = Path(job.directory) / "stacks.txt"
    with workers(job, [{max(os.sched_getaffinity(0))}]) as running:
        while not running[0].records():
            running[0].must_run()
        seconds = str(max(2, int(job.records * SECONDS_PER_RECORD * 0.8)))
        target = ["-p", str(running[0].process.pid), "-d", seconds, "-r", str(RATE_HZ)]
        command = [py_spy, "record", *target, "-f", "raw", "-t", "-o", str(raw)]
        spy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        measured = follow(running, job.records)
        spy.wait()
    return raw.read_text().splitlines(), measured.cpu_us


def show(stacks: list[str], cpu_us: float, lines: bool) -> None:  # noqa: FBT001 - an option of the command line
    """Print a table, costliest first."""
    own: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        frame = stack.rpartition(";")[2]
        if not frame.startswith(IDLE):
            own[frame if lines else re.sub(r":\d+\)$", ")", frame)] += int(count)
    print(f"{cpu_us:.1f} us of CPU per record")
    for frame, samples in own.most_common(SHOWN):
        print(f"{cpu_us * samples / own.total():6.2f}  {frame}")


IDLE = ("select (selectors", "Condition.wait", "wait (threading")
"""What a thread that waits is seen in."""

if __name__ == "__main__":
    main(sys.argv[1:])
