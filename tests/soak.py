"""A soak: one worker at half of what it can do, for half an hour; nothing that it holds may grow.

``make soak``, or ``python -m tests.soak --minutes 5``. The maximum is measured first, on the same log as the chaos
suite's. Then records flow at half of it, with event times of now, while memory, descriptors, threads and tasks are
sampled. After a first third, in which windows, detectors and caches fill, memory must not rise by more than
``MAX_SLOPE`` and the others must stay where they are.

It begins with a backlog, as after a restart: a worker never has more at work than then, and keeps what it took for it. The
world changes every few minutes and back again, for all models at once: alerts open and close, and ADWIN drops what it
holds. In a world that never changes its windows grow for ever, as the logarithm of their values' number.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import orjson
from aiokafka import AIOKafkaProducer

from tests.chaos_log import Fleet, build_fleet, compact
from tests.chaos_stage import run_kafka
from tests.fleet import Workers, publish, settings_for
from tests.onlooker import Onlooker, read, total

if TYPE_CHECKING:
    from driftline.streams.config.settings import Settings

MAX_SLOPE = 5.0
"""MB an hour."""
SAMPLE_S = 5.0
TICK_S = 0.1
BACKLOG_S = 30.0
"""How much of the flow comes at once in the beginning."""
PHASE_S = 120.0
"""How long the world stays as it is."""
SHIFT = 1.0
"""By how many standard deviations it changes."""
MODELS, PARTITIONS = 64, 32
N_TEMPLATES = 200_000
WINDOW_MS = 10_000
"""Six times as many windows as with the shipped minute: what leaks per window shows six times as soon."""


COUNTED = ("fds", "threads", "tasks")


class Sample(NamedTuple):
    """What a worker holds at a moment."""

    at_s: float
    rss_mb: float
    fds: int
    threads: int
    tasks: int
    lag: int


async def maximum(settings: Settings, workers: Workers, fleet: Fleet) -> float:
    """Records per second of a worker that catches up with a log."""
    await fleet.create_topics(settings)
    await publish(settings, fleet.baselines, fleet.log(settings.topics.predictions))
    process = workers.start()
    worker = Onlooker(process, workers.logs[process.pid])
    await worker.ready(60)
    seen: list[tuple[float, int]] = []
    while not seen or seen[-1][1] < sum(fleet.log_ends().values()):
        seen.append((time.monotonic(), read(await worker.metrics())))
        await asyncio.sleep(0.25)
    moving = [each for each in seen if each[1]]
    (start_s, start), (stop_s, stop) = moving[0], moving[-1]
    workers.stop()
    return (stop - start) / (stop_s - start_s)


async def flow(settings: Settings, fleet: Fleet, rate: float, until_s: float) -> int:
    """Publish the log's records again and again at a rate, their times moved to now; how many."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers, linger_ms=20, max_batch_size=2**17)
    await producer.start()
    worlds = [_templates(fleet, 0.0), _templates(fleet, SHIFT)]
    sent, started = 0, time.monotonic()
    try:
        while time.monotonic() < until_s:
            due = int(rate * (BACKLOG_S + time.monotonic() - started))
            now_ms = time.time_ns() // 1_000_000
            templates = worlds[int((time.monotonic() - started) // PHASE_S) % len(worlds)]
            for place in range(sent, due):
                partition, value = templates[place % len(templates)]
                await producer.send(
                    settings.topics.predictions, value % now_ms, partition=partition, timestamp_ms=now_ms
                )
            sent = due
            await asyncio.sleep(TICK_S)
    finally:
        await producer.stop()
    return sent


def _templates(fleet: Fleet, shift: float) -> list[tuple[int, bytes]]:
    """Partition and bytes of each record, all partitions in turn, numbers shifted, with a place for its time."""
    templates = []
    for place in range(min(fleet.log_ends().values()) - 1):
        for partition, records in enumerate(fleet.values):
            document = orjson.loads(records[place][1] or b"")
            shifted = {name: value + shift for name, value in document["features"].items() if name != "kind"}
            document["features"] |= shifted
            document["prediction"] += shift * len(shifted)
            document["timestamp"] = 0
            templates.append((partition, compact(document).replace(b'"timestamp":0', b'"timestamp":%d')))
    return templates


async def watch(worker: Onlooker, until_s: float) -> list[Sample]:
    """Look every few seconds."""
    samples = []
    while time.monotonic() < until_s:
        usage, metrics = worker.usage(), await worker.metrics()
        lag = total(metrics, "consumer_lag_records")
        tasks = total(metrics, "asyncio_tasks")
        samples.append(Sample(usage.at_s, usage.rss_mib * 2**20 / 1e6, usage.fds, usage.threads, tasks, lag))
        await asyncio.sleep(SAMPLE_S)
    return samples


def problems(samples: list[Sample], slope: float) -> list[str]:
    """What grows. Of what comes and goes, the least of each half is compared: what leaks is never gone again."""
    found = [f"memory rises by {slope:.1f} MB/h"] * (slope > MAX_SLOPE)
    half = len(samples) // 2
    for name in COUNTED:
        before, after = (min(getattr(each, name) for each in part) for part in (samples[:half], samples[half:]))
        found += [f"{name}: {before} at least, later {after}"] * (after > before)
    return found


def slope_per_hour(samples: list[Sample]) -> tuple[float, float]:
    """Least-squares slope of memory, MB per hour, and its standard error."""
    hours = np.array([each.at_s for each in samples]) / 3600
    rss = np.array([each.rss_mb for each in samples])
    hours -= hours.mean()
    slope = float((hours * rss).sum() / (hours * hours).sum())
    left = rss - rss.mean() - slope * hours
    return slope, float(np.sqrt((left * left).sum() / (len(samples) - 2) / (hours * hours).sum()))


async def soak(directory: Path, bootstrap: str, minutes: float) -> int:
    """Measure, flow, tell; the number of problems."""
    fleet = build_fleet(N_TEMPLATES, MODELS, PARTITIONS)
    settings, config = settings_for(bootstrap, "maximum", directory, **fleet.plan)
    with Workers(config) as workers:
        rate = await maximum(settings, workers, fleet) / 2
    print(f"half of the maximum: {rate:,.0f} records/s", file=sys.stderr, flush=True)
    fleet.plan["window_ms"] = WINDOW_MS
    settings, config = settings_for(bootstrap, "soak", directory, **fleet.plan)
    await fleet.create_topics(settings)
    await publish(settings, fleet.baselines, [])
    with Workers(config) as workers:
        process = workers.start()
        worker = Onlooker(process, workers.logs[process.pid])
        await worker.ready(60)
        until_s = time.monotonic() + minutes * 60
        sent, samples = await asyncio.gather(flow(settings, fleet, rate, until_s), watch(worker, until_s))
        n_read = read(await worker.metrics())
        codes = workers.stop()
    return _told(samples, sent, n_read, codes)


def _told(samples: list[Sample], sent: int, n_read: int, codes: list[int]) -> int:
    """Print what was seen; the number of problems."""
    warm = samples[len(samples) // 3 :]
    slope, error = slope_per_hour(warm)
    found = problems(warm, slope) + [f"exit codes {codes}"] * any(codes)
    seen = {name: [getattr(each, name) for each in warm] for name in COUNTED}
    spans = ", ".join(f"{name} {min(each)} to {max(each)}" for name, each in seen.items())
    print(
        f"{sent:,} records sent, {n_read:,} read, largest lag {max(each.lag for each in warm):,}; after warm-up "
        f"{warm[0].rss_mb:.1f} -> {warm[-1].rss_mb:.1f} MB, {slope:+.1f} +- {error:.1f} MB/h; "
        f"{spans}: {'; '.join(found) or 'held'}"
    )
    return len(found)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work there and leave the worker's log")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="driftline-soak-") as temporary:
        directory = arguments.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        bootstrap = run_kafka(directory / "kafka", "up", "--port", "0")
        try:
            found = asyncio.run(soak(directory, bootstrap, arguments.minutes))
        finally:
            run_kafka(directory / "kafka", "down")
    sys.exit(min(1, found))


if __name__ == "__main__":
    main()
