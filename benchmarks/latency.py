"""How long a finding takes: records arrive at a fixed rate, and a subscriber waits for what the worker says of them.

The load is open-loop: every 20 ms a share of records is due, whether or not the share before it has been dealt with,
and a latency runs from the moment at which its record was due. So whatever delays the producer counts as well. Producer
and subscriber share one process, and the broker's core. Windows last a second here, so that a short run sees several,
and the number of single-record alerts is not capped; both cost the worker more than its shipped configuration.
"""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from aiokafka import AIOKafkaProducer
from cluster import BATCH_BYTES, create
from generator import Work, values
from meter import cpu_seconds
from worker import POLL_S, workers

from driftline.detectors.verdicts.decide import Verdict
from driftline.streams.client.client import AlertSubscriber
from driftline.streams.kafka.reader import TopicReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from job import Job
    from worker import Worker

TICK_S = 0.02
WINDOW_MS, LATENESS_MS = 1_000, 500
CONFIGURATION = f"[plan]\nwindow_ms = {WINDOW_MS}\nlateness_ms = {LATENESS_MS}\nevents_per_window = 1_000_000\n"
WARM_S = 3.0
"""What is due before is sent and not measured: the first batches meet cold caches."""
SETTLE_S = 5.0
"""Longest wait, after the last record, for what the worker still has to say."""
POOL = 20_000
BROKEN = 1e9
"""A value that breaks a range constraint, and tells its alert from others."""
STAMP = slice(77, 90)
"""Where a record's value has its timestamp; all values have it at the same place."""


@dataclass
class Heard:
    """What was sent and seen, and when by the wall clock, in milliseconds.

    Parameters
    ----------
    acknowledged_ms
        Per partition, (event time, time of the acknowledgement) of each tick's records, in order.
    alerts_ms
        (event time, time seen) of each single-record alert.
    verdicts_ms
        Window end to time seen, of final verdicts.
    behind_ms
        How late each tick was sent.
    """

    acknowledged_ms: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    alerts_ms: list[tuple[int, float]] = field(default_factory=list)
    verdicts_ms: dict[int, float] = field(default_factory=dict)
    behind_ms: list[float] = field(default_factory=list)


def measure(job: Job, cores: list[int], rate: float, seconds: float) -> dict[str, float | None]:
    """Run one worker under a fixed rate of records a second; return quantiles in milliseconds."""
    asyncio.run(create(job.bootstrap, job.topic, job.partitions))
    with workers(job, [{cores[1]}], CONFIGURATION) as (worker,):
        while not worker.is_ready():
            worker.must_run()
            time.sleep(POLL_S)
        gc.collect()
        gc.disable()
        try:
            heard, cpu = asyncio.run(_run(job, worker, rate, seconds))
        finally:
            gc.enable()
    return summary(heard) | {"rate": round(rate), "cpu_us": round(1e6 * cpu / (rate * seconds), 3)}


async def _run(job: Job, worker: Worker, rate: float, seconds: float) -> tuple[Heard, float]:
    heard = Heard()
    plain, broken = pool(broken=False), pool(broken=True)
    async with (
        AIOKafkaProducer(bootstrap_servers=job.bootstrap, acks=1, max_batch_size=BATCH_BYTES) as producer,
        listening(job, heard),
    ):
        before = cpu_seconds(worker.process.pid)
        sent, started = 0, time.time()
        for tick in range(int(seconds / TICK_S)):
            due = started + tick * TICK_S
            await asyncio.sleep(max(0.0, due - time.time()))
            until = int((tick + 1) * TICK_S * rate)
            values_due = [*islice(plain, until - sent - 1), next(broken)]
            await send(producer, job, values_due, due, tick, heard)
            sent = until
        cpu = cpu_seconds(worker.process.pid) - before
        await settled(heard)
    return heard, cpu


def pool(*, broken: bool) -> Iterator[tuple[bytes, bytes]]:
    """Records without end, each in two pieces, before and after its timestamp; broken ones violate a range."""
    drawn = values(Work(POOL))
    if broken:
        documents = map(orjson.loads, islice(drawn, POOL // 100))
        drawn = (orjson.dumps(each | {"features": each["features"] | {"amount_00": BROKEN}}) for each in documents)
    return cycle([(value[: STAMP.start], value[STAMP.stop :]) for value in drawn])


async def send(producer: Any, job: Job, found: list[tuple[bytes, bytes]], due: float, tick: int, heard: Heard) -> None:
    """Send one tick's records, one batch a partition; the broken one, the last, goes to each partition in turn."""
    event_ms = int(due * 1000)
    stamp = str(event_ms).encode()
    heard.behind_ms.append(1000 * (time.time() - due))
    for place in range(job.partitions):
        partition = (tick + place) % job.partitions
        batch = producer.create_batch()
        for head, tail in reversed(found[len(found) - 1 - place :: -job.partitions]):
            assert batch.append(key=None, value=head + stamp + tail, timestamp=None) is not None
        if batch.record_count():
            future = await producer.send_batch(batch, job.topic, partition=partition)
            taken = heard.acknowledged_ms.setdefault(partition, [])
            future.add_done_callback(lambda _done, taken=taken: taken.append((event_ms, 1000 * time.time())))


@asynccontextmanager
async def listening(job: Job, heard: Heard) -> AsyncIterator[None]:
    """Subscribe to alerts and verdicts while the block runs."""

    async def hear_alerts(alerts: AlertSubscriber) -> None:
        async for alert in alerts:
            if alert.value == BROKEN:
                heard.alerts_ms.append((alert.time_ms, 1000 * time.time()))

    async def hear_verdicts(verdicts: TopicReader[Verdict]) -> None:
        async for verdict in verdicts:
            if verdict.final:
                heard.verdicts_ms.setdefault(verdict.window.end_ms, 1000 * time.time())

    async with (
        AlertSubscriber(job.bootstrap, f"{job.group}-alerts") as alerts,
        TopicReader(job.bootstrap, f"{job.group}-windows", Verdict) as verdicts,
    ):
        tasks = [asyncio.create_task(hear_alerts(alerts)), asyncio.create_task(hear_verdicts(verdicts))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task


async def settled(heard: Heard) -> None:
    """Wait for the alert of every tick, and for the windows that are due."""
    until = time.time() + SETTLE_S
    while time.time() < until and (  # noqa: ASYNC110 - two readers may end it, and a quarter of a second is no matter
        len(heard.alerts_ms) < len(heard.behind_ms) or set(due_ms(heard)) - heard.verdicts_ms.keys()
    ):
        await asyncio.sleep(POLL_S)


def due_ms(heard: Heard) -> dict[int, float]:
    """Window end to the moment at which the broker had acknowledged, on every partition, a record that closes it."""
    taken = heard.acknowledged_ms.values()
    first = min(moments[0][0] for moments in taken) + int(1000 * WARM_S)
    last = min(moments[-1][0] for moments in taken) - LATENESS_MS
    ends = range(first - first % WINDOW_MS + WINDOW_MS, last + 1, WINDOW_MS)
    return {
        end: max(next(at for event_ms, at in moments if event_ms >= end + LATENESS_MS) for moments in taken)
        for end in ends
    }


def summary(heard: Heard) -> dict[str, float | None]:
    """Quantiles, in milliseconds; what never came counts as infinitely late, and None stands for that."""
    first = min(moments[0][0] for moments in heard.acknowledged_ms.values()) + 1000 * WARM_S
    warm = int(WARM_S / TICK_S)
    alerts = [seen - event_ms for event_ms, seen in heard.alerts_ms if event_ms >= first]
    alerts += [np.inf] * max(0, len(heard.behind_ms) - len(heard.alerts_ms))
    windows = [heard.verdicts_ms.get(end, np.inf) - at for end, at in due_ms(heard).items()]
    return {
        "alerts": len(alerts),
        "alert_p50_ms": _quantile(alerts, 0.5),
        "alert_p99_ms": _quantile(alerts, 0.99),
        "windows": len(windows),
        "window_p50_ms": _quantile(windows, 0.5),
        "window_max_ms": _quantile(windows, 1.0),
        "producer_behind_p99_ms": _quantile(heard.behind_ms[warm:], 0.99),
    }


def _quantile(found: list[float], share: float) -> float | None:
    """The value that this share does not exceed, one of those found; None where that is infinite."""
    value = float(np.quantile(found, share, method="higher"))
    return round(value, 1) if np.isfinite(value) else None
