"""Scenarios about size: a flood of new models, and a restart with very many states."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import count, cycle
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import orjson
from aiokafka import AIOKafkaProducer

from driftline.detectors.plan import plan_from
from driftline.streams.formats import wire
from driftline.streams.observability.drift_gauge import MAX_SERIES
from tests.chaos_log import N_FEATURES, WINDOW_MS, Fleet, build_fleet
from tests.chaos_probe import batches
from tests.chaos_stage import EQUAL, Fault, Log, Size, Stage
from tests.fleet import ROOT, Outcome, expected, publish, states_saved, verdicts_complete
from tests.logs import watching
from tests.onlooker import Onlooker, by_label, read, total

if TYPE_CHECKING:
    from collections.abc import Iterator

    from driftline.detectors.documents.baseline import Baseline
    from driftline.streams.config.settings import Settings

NEW_PER_S = 10_000 / 60
KNOWN_PER_S = 2_000
TICK_S = 0.05
SCRAPE_S = 5.0
BEFORE_S = 20.0
RSS_MIB = 1024.0
READY_S = 60.0
SLOWER = 2.0
PER_NEW_MODEL = 2
"""Records of each new model, of each unknown one too."""


def clones(baselines: list[Baseline], n: int) -> list[Baseline]:
    """As many models, with the given profiles in turn."""
    return [
        msgspec.structs.replace(baseline, model=f"new-{place}").sealed()
        for place, baseline in zip(range(n), cycle(baselines), strict=False)
    ]


@dataclass
class Crowd(Fleet):
    """Known models, and those that come."""

    new: list[bytes] = field(default_factory=list)


async def _crowd_log(settings: Settings, size: Size, n: int, **plan: int) -> Log:
    """Topics and the known models' baselines, and the new models'."""
    fleet = build_fleet(1, size.models, size.partitions)
    new = await asyncio.to_thread(clones, fleet.baselines[:8], n)
    plan = fleet.plan | plan
    watch = watching(plan_from(plan), *fleet.baselines)
    crowd = Crowd(plan, fleet.baselines, fleet.partitions, [[]] * fleet.partitions, watch)
    crowd.new = [each.to_json() for each in new]
    await crowd.create_topics(settings)
    await publish(settings, crowd.baselines, [])
    return Log(crowd, Outcome())


async def crowd_log(settings: Settings, size: Size) -> Log:
    """A hundredth as many new models as the suite has records, and room for all."""
    return await _crowd_log(settings, size, size.records // 100, window_ms=10_000, max_models=20_000)


async def capped_log(settings: Settings, size: Size) -> Log:
    """A quarter of these, and the shipped cap, 1,000 models."""
    return await _crowd_log(settings, size, size.records // 400, window_ms=10_000)


@dataclass
class Traffic:
    """Publishes at a steady pace, with event times of now: known models to even partitions, others to odd ones."""

    producer: AIOKafkaProducer
    settings: Settings
    partitions: int
    known: Iterator[str]
    sent: Counter[str] = field(default_factory=Counter)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(16))

    async def record(self, model: str) -> None:
        """Publish a record of a model."""
        now_ms, x = time.time_ns() // 1_000_000, self.rng.normal(size=N_FEATURES).round(4).tolist()
        features = {f"x{place}": value for place, value in enumerate(x)} | {"kind": "a"}
        document = {"model": model, "version": "1", "timestamp": now_ms, "features": features, "prediction": sum(x)}
        partition = 2 * int(self.rng.integers(self.partitions // 2)) + (model.partition("-")[0] != "model")
        await self.producer.send(
            self.settings.topics.predictions, orjson.dumps(document), partition=partition, timestamp_ms=now_ms
        )
        self.sent[model.partition("-")[0]] += 1

    async def tick(self) -> None:
        """The known models' share of a tick."""
        due = time.monotonic() + TICK_S
        for _ in range(int(KNOWN_PER_S * TICK_S)):
            await self.record(next(self.known))
        await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def known_for(self, seconds: float) -> None:
        """Records of known models only."""
        for _ in range(int(seconds / TICK_S)):
            await self.tick()

    async def flood(self, new: list[bytes], worker: Onlooker) -> float:
        """New baselines, each followed by records once the worker has seen it; and records of unknown models.

        Returns
        -------
        Seconds in which the baselines were published.
        """
        told = seen = followed = 0
        started, told_s = time.monotonic(), 0.0
        n_known = total(await worker.metrics(), "models_watched")
        per_tick = NEW_PER_S * TICK_S
        ticks = count(1)
        while followed < len(new):
            so_far_s = time.monotonic() - started
            upto = min(len(new), int(so_far_s * NEW_PER_S))
            for place in range(told, upto):
                key = wire.model_key(f"new-{place}", "1")
                await self.producer.send(self.settings.topics.baselines, new[place], key=key)
                for _ in range(PER_NEW_MODEL):
                    await self.record(f"ghost-{place}")
            if next(ticks) % int(SCRAPE_S / TICK_S) == 0:
                samples = await worker.metrics()
                seen = total(samples, "models_watched") + total(samples, "refused_baselines_total") - n_known
            follow = min(seen, followed + int(2 * per_tick))
            for place in range(followed, follow):
                for _ in range(PER_NEW_MODEL):
                    await self.record(f"new-{place}")
            told_s = so_far_s if told < len(new) else told_s
            told, followed = upto, follow
            await self.tick()
        return told_s


def _probed(stage: Stage) -> Onlooker:
    """A worker that writes a line for every batch."""
    workers = stage.workers
    path = workers._config.with_suffix(".batches")
    log = workers._config.with_suffix(".probed.log")
    command = [sys.executable, "-m", "tests.chaos_probe", str(path), "--config", str(workers._config), "worker"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=workers._environment, cwd=ROOT, stdout=output, stderr=output)
    workers.running.append(process)
    workers.logs[process.pid] = log
    return Onlooker(process, log)


async def _most_mib(worker: Onlooker) -> float:
    """The most memory that a worker has held; to be cancelled."""
    most = 0.0
    try:
        while True:
            most = max(most, worker.usage().rss_mib)
            await asyncio.sleep(0.5)
    except asyncio.CancelledError:
        return most


async def flood(stage: Stage) -> str:
    """Known models at a steady rate; after a while, new ones as well."""
    crowd = stage.fleet
    assert isinstance(crowd, Crowd)
    worker = _probed(stage)
    await worker.ready(60)
    bootstrap = stage.settings.kafka.bootstrap_servers
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, enable_idempotence=True)
    await producer.start()
    watching = asyncio.create_task(_most_mib(worker))
    try:
        known = cycle([each.model for each in crowd.baselines])
        traffic = Traffic(producer, stage.settings, crowd.partitions, known)
        await traffic.known_for(BEFORE_S / 2)
        start_ms = time.time_ns() / 1e6
        await traffic.known_for(BEFORE_S)
        flood_ms = time.time_ns() / 1e6
        told_s = await traffic.flood(crowd.new, worker)
        end_ms = time.time_ns() / 1e6
        await traffic.known_for(3 * crowd.plan["window_ms"] / 1000)  # until the new models' windows are judged
        await producer.flush()
        samples = await _all_read(worker, traffic.sent.total())
    finally:
        watching.cancel()
        await producer.stop()
    most_mib = await watching
    told = batches(worker.log.with_name(worker.log.name.replace(".probed.log", ".batches")))
    known_only = [each for each in told if each.partition % 2 == 0]
    spans = ((start_ms, flood_ms), (flood_ms, end_ms))
    took, aged = (
        [_p99([getattr(each, what) for each in known_only if start <= each.at_ms < stop]) for start, stop in spans]
        for what in ("took_ms", "age_ms")
    )
    refused = max(0, len(crowd.new) + len(crowd.baselines) - crowd.watch.plan.max_models)
    counted, unknown = (
        by_label(samples, "records_rejected_total", "reason"),
        traffic.sent["ghost"] + PER_NEW_MODEL * refused,
    )
    series = [sum(each.name == f"driftline_{gauge}" for each in samples) for gauge in ("drift_score", "drift_active")]
    notes = (
        f"{len(crowd.new):,} new models in {told_s:.0f} s, {refused:,} refused, the others watched and sent records after {(end_ms - flood_ms) / 1000:.0f} s; CPU of known models' batches p99 {took[0]:.1f} -> "
        f"{took[1]:.1f} ms, records' age p99 {aged[0]:.0f} -> {aged[1]:.0f} ms; RSS {most_mib:.0f} MiB at most; {sum(series):,} drift series of {len(samples):,}"
    )
    assert counted == {"unknown_model": unknown}, f"{notes}; rejected {counted}, {unknown} are of unknown models"
    assert total(samples, "refused_baselines_total") == refused, notes
    assert max(series) <= MAX_SERIES, notes
    assert most_mib <= RSS_MIB, notes
    assert took[1] <= SLOWER * took[0], notes
    return notes


async def _all_read(worker: Onlooker, n: int) -> Any:
    """Metrics once all records are read."""
    for _ in range(24):
        if read(samples := await worker.metrics()) == n:
            return samples
        await asyncio.sleep(SCRAPE_S)
    raise AssertionError(f"{read(samples)} of {n} records are read")


def _p99(values: list[float]) -> float:
    return float(np.quantile(values, 0.99))


async def nothing_to_compare(_stage: Stage, _found: Outcome) -> list[str]:
    """The run itself has judged."""
    return []


# A restart with many states.


async def cells_log(settings: Settings, size: Size) -> Log:
    """A hundredth as many pairs of model and partition as there are records: 1250 models on 8 partitions."""
    partitions = 8
    fleet = build_fleet(size.records // 4, 8, partitions)
    n = size.records // 100 // partitions
    plan = fleet.plan | {"max_models": 20_000, "window_ms": 5 * WINDOW_MS}
    baselines = clones(fleet.baselines, n)
    watch = watching(plan_from(plan), *baselines)
    values = [list(records) for records in fleet.values]
    for records in values:
        for place, (at_ms, value) in enumerate(records[:-1]):
            model = f'"new-{place % n}"'.encode()
            document = (value or b"").replace(orjson.dumps(orjson.loads(value or b"")["model"]), model, 1)
            records[place] = at_ms, document
        at_ms, value = records[-1]
        records[-1] = at_ms, (value or b"").replace(b'"model-0"', b'"new-0"')
    crowd = replace(fleet, plan=plan, baselines=baselines, values=values, watch=watch)
    wanted = await asyncio.to_thread(expected, watch, crowd.log(settings.topics.predictions))
    await crowd.create_topics(settings)
    await publish(settings, baselines, crowd.log(settings.topics.predictions))
    return Log(crowd, wanted)


async def restart(stage: Stage) -> str:
    """Kill the worker once it has saved everything; how long until the next one is ready and holds all states."""
    process = stage.workers.start()
    await verdicts_complete(stage.settings, stage.wanted, 300)
    await states_saved(stage.settings, stage.fleet.log_ends(), 120)
    stage.workers.kill(process)
    process = stage.workers.start()
    worker = Onlooker(process, stage.workers.logs[process.pid])
    started = time.monotonic()
    await worker.ready(READY_S)
    ready_s = time.monotonic() - started
    while total(samples := await worker.metrics(), "assigned_partitions") < stage.fleet.partitions:
        assert time.monotonic() - started < READY_S, "ready, but its states are not restored"
        await asyncio.sleep(TICK_S)
    restored_s = time.monotonic() - started
    damaged, again = total(samples, "damaged_snapshots_total"), total(samples, "records_in_total")
    assert damaged == 0, f"{damaged} snapshots are damaged"
    return (
        f"{len(stage.wanted.states):,} states; ready after {ready_s:.1f} s, all restored after {restored_s:.1f} s, "
        f"{again:,} records read again, {worker.usage().rss_mib:.0f} MiB"
    )


FAULTS = (
    Fault(
        "models",
        "10,000 new models in 60 s, and records of as many unknown ones",
        f"p99 of batches' CPU <= {SLOWER:g} x before, RSS <= {RSS_MIB:.0f} MiB, <= {MAX_SERIES:,} series of each drift gauge, counts exact",
        flood,
        log=crowd_log,
        check=nothing_to_compare,
    ),
    Fault(
        "models-capped",
        "2,500 in 15 s, under the shipped plan.max_models (1,000)",
        f"p99 of batches' CPU <= {SLOWER:g} x before, RSS <= {RSS_MIB:.0f} MiB, <= {MAX_SERIES:,} series of each drift gauge, counts exact",
        flood,
        log=capped_log,
        check=nothing_to_compare,
    ),
    Fault(
        "restart",
        "kill -9 and a restart with 10,000 states",
        f"{EQUAL}, ready within {READY_S:.0f} s",
        restart,
        log=cells_log,
    ),
)
