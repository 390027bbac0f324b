"""The benchmark: every peer several times in turn, on one real Kafka, in one run.

    make bench        or        .venv/bin/python benchmarks/run.py [--rounds N] [--records N]

It starts a broker of its own, produces the log before any clock starts, and pins broker and harness to one core and the
peer to another. It writes docs/benchmarks.json, docs/benchmarks.svg and the table in docs/benchmarks.md. Only ratios between rows of one run mean anything on another machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import kafka, produce
from generator import Work, baselines, reference
from job import Job
from meter import Measured
from report import publish_report
from worker import follow, workers

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
PARTITIONS = 4
SCRIPT_TIMEOUT_S = 300
NO_TELEMETRY = {"DO_NOT_TRACK": "1", "WHYLOGS_NO_ANALYTICS": "1"}
"""Peers that would tell their makers of a run are told not to."""


def main(arguments: list[str]) -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each peer runs (default %(default)s)")
    parser.add_argument("--records", type=int, default=1_000_000, help="records of the log (default %(default)s)")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(OWN), help="default: %(default)s")
    parser.add_argument("--docs", type=Path, default=HERE.parent / "docs", help="where to write (default docs/)")
    options = parser.parse_args(arguments)
    if missing := [peer for peer in options.peers if peer in OTHERS and not interpreter(peer).exists()]:
        sys.exit(f"no environment for {', '.join(missing)}: make peers")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("this machine lends one core only: broker and peer would fight for it and no figure would mean much")
    os.sched_setaffinity(0, {cores[0]})  # the broker inherits it
    work = Work(options.records)
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as directory, kafka(Path(directory)) as bootstrap:
        say(f"producing {work.records:,} records")
        size = produce(bootstrap, "predictions", PARTITIONS, work)
        documents = [baseline.to_json() for baseline in baselines(work)]
        (Path(directory) / "baselines.jsonl").write_bytes(b"\n".join(documents))
        (Path(directory) / "reference.jsonl").write_bytes(b"\n".join(reference(work)))
        whole = Job(bootstrap, "predictions", PARTITIONS, work.records, "", directory)
        found = rounds(whole, options.peers, options.rounds, cores)
    publish_report(options.docs, work, size / work.records, found)


def rounds(whole: Job, peers: list[str], n_rounds: int, cores: list[int]) -> dict[str, list[Measured]]:
    """Run each peer once a round."""
    found: dict[str, list[Measured]] = {peer: [] for peer in peers}
    for turn in range(1, n_rounds + 1):
        for peer in peers:
            job = replace(whole, group=f"{peer.replace(' ', '-')}-{turn}")
            found[peer].append(PEERS[peer](job, cores))
            last = found[peer][-1]
            say(
                f"round {turn}  {peer:<12} {last.rate:>10,.0f} records/s  {last.cpu_us:7.2f} us CPU  {last.peak_mb:5.0f} MB"
            )
    return found


def script(path: Path, python: Path, share: float = 1.0) -> Callable[[Job, list[int]], Measured]:
    """Make the runner of a peer that is a script of its own; a slow one takes a share of the log only."""

    def run(job: Job, cores: list[int]) -> Measured:
        told = replace(job, records=int(job.records * share)).write()
        path_of_modules = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            [python, str(path), str(told)],
            env=os.environ | NO_TELEMETRY | {"PYTHONPATH": path_of_modules},
            stdout=subprocess.PIPE,
            text=True,
        )
        os.sched_setaffinity(process.pid, {cores[1]})
        try:
            output, _ = process.communicate(timeout=SCRIPT_TIMEOUT_S)
        finally:
            process.kill()  # one that hangs would read on for ever
        return Measured(**json.loads(output.splitlines()[-1]))

    return run


def own(name: str, share: float = 1.0) -> Callable[[Job, list[int]], Measured]:
    """Make the runner of a peer that needs nothing but driftline's environment."""
    return script(HERE / f"peer_{name}.py", Path(sys.executable), share)


def interpreter(name: str) -> Path:
    """The Python of a peer's own environment, which ``make peers`` makes."""
    return HERE.parent / ".cache" / "peers" / name / "bin" / "python"


def one_worker(job: Job, cores: list[int]) -> Measured:
    """Run one worker on a core of its own."""
    with workers(job, [{cores[1]}]) as running:
        return follow(running, job.records)


def two_workers(job: Job, cores: list[int]) -> Measured:
    """Run two workers on the cores that broker and harness run on, too."""
    with workers(job, [set(cores[:2])] * 2) as running:
        return follow(running, job.records)


def say(text: str) -> None:
    """Tell of progress."""
    print(text, file=sys.stderr, flush=True)


OWN: dict[str, Callable[[Job, list[int]], Measured]] = {
    "naive": own("naive", share=0.06),
    "floor": own("floor"),
    "limit": own("limit"),
    "driftline": one_worker,
    "two workers": two_workers,
    "memory": own("memory", share=0.3),
}
OTHERS = {
    name: script(path, interpreter(name), share=0.06)
    for path in sorted((HERE / "peers").glob("*.py"))
    for name in (path.stem.removeprefix("peer_"),)
}
PEERS = OWN | OTHERS

if __name__ == "__main__":
    main(sys.argv[1:])
