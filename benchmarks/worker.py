"""driftline as shipped: its command line, its configuration, snapshots, metrics and verdicts, in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import publish
from meter import Measured, cpu_seconds, peak_mb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from job import Job

OWN_TOPICS = ("baselines", "partials", "windows", "alerts", "dead_letters")
POLL_S = 0.25
IDLE_POLLS, IDLE_SHARE = 4, 0.15
"""A worker rests when so many polls in a row saw it use less than this share of a core."""
COMMAND = (sys.executable, "-m", "driftline.streams.cli.main")


@dataclass(frozen=True)
class Worker:
    """A running worker."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def metric(self, name: str) -> float:
        """Sum of a metric's series; 0 while it has none or nobody answers yet."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return 0.0
        series = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]  # with labels or without
        return sum(float(line.rpartition(" ")[2]) for line in series)

    def records(self) -> int:
        """Records taken in so far."""
        return int(self.metric("driftline_records_in_total"))

    def accepted(self) -> int:
        """Records counted so far, without those that were read twice."""
        return int(self.metric('driftline_records_total{result="accepted"}'))

    def is_ready(self) -> bool:
        """Whether its partitions are assigned and their states restored."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5):
                return True
        except OSError:
            return False

    def must_run(self) -> None:
        """Raise RuntimeError if it has ended."""
        if self.process.poll() is not None:
            end = "\n".join(self.log.read_text().splitlines()[-20:])
            raise RuntimeError(f"the worker ended with exit code {self.process.returncode}:\n{end}")


@contextmanager
def workers(job: Job, cores: Sequence[set[int]], extra: str = "") -> Iterator[list[Worker]]:
    """Run one worker per set of cores, with topics and an app id of their own, over the job's log.

    Parameters
    ----------
    job
        Which log; its group is the app's id.
    cores
        Where each worker may run.
    extra
        More lines of TOML: of section ``worker``, until they open another.
    """
    config = Path(job.directory) / f"{job.group}.toml"
    names = "".join(f'{topic} = "{job.group}-{topic}"\n' for topic in OWN_TOPICS)
    config.write_text(
        f'[kafka]\nbootstrap_servers = "{job.bootstrap}"\n[topics]\npredictions = "{job.topic}"\n{names}'
        f'[worker]\napp_id = "{job.group}"\n{extra}\n'
    )
    command = [*COMMAND, "--config", str(config)]
    subprocess.run([*command, "topics", "create"], check=True, stdout=subprocess.DEVNULL)
    publish(job.bootstrap, f"{job.group}-baselines", [(line[:64], line) for line in job.baseline_lines()])
    running = [_started(command, where, Path(job.directory) / f"{job.group}-{i}.log") for i, where in enumerate(cores)]
    try:
        yield running
    finally:
        for worker in running:
            worker.process.terminate()
        for worker in running:
            worker.process.wait(60)


def _started(command: list[str], cores: set[int], log: Path) -> Worker:
    port = _free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "worker"],
            env=os.environ | {"DRIFTLINE_WORKER__METRICS_PORT": str(port)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    os.sched_setaffinity(process.pid, cores)  # inherited by the threads that it will start
    return Worker(process, port, log)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def follow(running: Sequence[Worker], records: int) -> Measured:
    """Watch workers from the first batch that they have taken in until they have taken in all records."""
    first = _sample(running)
    while first.records == 0:
        time.sleep(POLL_S)
        first = _sample(running)
    last = first
    while last.records < records:
        time.sleep(POLL_S)
        last = _sample(running)
    return Measured(
        last.records - first.records, last.at - first.at, last.cpu_seconds - first.cpu_seconds,
        sum(peak_mb(worker.process.pid) for worker in running),
        int(sum(worker.metric('driftline_batch_duration_seconds_count{stage="profiling"}') for worker in running)),
    )  # fmt: skip


def drain(worker: Worker, records: int) -> Measured:
    """Watch one worker from its first batch until it rests with all records taken in.

    With hundreds of models a scrape of the metrics costs as much as thousands of records. So the end is seen by the
    CPU time that stands still, and the metrics are only asked then.
    """
    first = _sample([worker])
    while first.records == 0:
        time.sleep(POLL_S)
        first = _sample([worker])
    polls = IDLE_POLLS
    at, cpu = _rest(worker, polls)
    while worker.accepted() < records:
        polls *= 2  # it did not rest: others have starved it
        at, cpu = _rest(worker, polls)
    batches = int(worker.metric('driftline_batch_duration_seconds_count{stage="profiling"}'))
    seconds, cpu_used = at - first.at, cpu - first.cpu_seconds
    return Measured(records - first.records, seconds, cpu_used, peak_mb(worker.process.pid), batches)


def _rest(worker: Worker, polls: int) -> tuple[float, float]:
    """Wait until the worker rests; return when the rest began and the CPU seconds up to then."""
    quiet, began, last = 0, (0.0, 0.0), cpu_seconds(worker.process.pid)
    while quiet < polls:
        time.sleep(POLL_S)
        worker.must_run()
        now = cpu_seconds(worker.process.pid)
        if now - last > IDLE_SHARE * POLL_S:
            quiet = 0
        else:
            quiet += 1
            began = began if quiet > 1 else (time.perf_counter() - POLL_S, last)
        last = now
    return began


@dataclass(frozen=True)
class _Sample:
    at: float
    records: int
    cpu_seconds: float


def _sample(running: Sequence[Worker]) -> _Sample:
    for worker in running:
        worker.must_run()
    records = sum(worker.records() for worker in running)
    return _Sample(time.perf_counter(), records, sum(cpu_seconds(worker.process.pid) for worker in running))
