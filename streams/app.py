"""The worker: a Faust application with two agents, wired to the pump."""

import asyncio
import gc
import logging
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from time import monotonic
from typing import Any

import faust
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from faust.types import TP

from driftline.detectors.errors import OperatorError
from driftline.detectors.watch import Watch
from driftline.streams.baselines import BaselineFollower
from driftline.streams.batching import BatchSchema, batch_scheduler
from driftline.streams.config import Settings
from driftline.streams.connection import faust_broker, faust_credentials, opened
from driftline.streams.health import serving
from driftline.streams.metrics import Metrics
from driftline.streams.pump import Pump
from driftline.streams.stages import ProfilingStage, Shared, VerdictStage
from driftline.streams.table_store import TableStore
from driftline.streams.wire import Outgoing

log = logging.getLogger(__name__)

TICK_S = 0.5
STOP_TIMEOUT_S = 20.0


class KafkaSink:
    """Writes outputs through a producer of its own: idempotent, so in order and without duplicates of its making."""

    def __init__(self, producer: AIOKafkaProducer, topics: dict[str, str]) -> None:
        self._producer, self._topics = producer, topics

    async def send(self, record: Outgoing) -> Awaitable[object]:
        """Start to write; the result is the broker's acknowledgement."""
        acknowledged: Awaitable[object] = await self._producer.send(
            self._topics[record.topic],
            record.value,
            key=record.key,
            partition=record.partition,
            headers=list(record.headers),
        )
        return acknowledged


def make_app(settings: Settings, datadir: str) -> faust.App:
    """Make the Faust application. Faust's own web server, acks and topic declarations are off: see DESIGN.md."""
    topics, worker = settings.topics, settings.worker
    return faust.App(
        worker.app_id,
        broker=faust_broker(settings.kafka),
        broker_credentials=faust_credentials(settings.kafka),
        ConsumerScheduler=batch_scheduler(frozenset({topics.predictions, topics.partials})),
        store="memory://",
        datadir=datadir,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        autodiscover=False,
        stream_buffer_maxsize=16,  # in batches
        stream_wait_empty=False,
        broker_max_poll_records=worker.max_batch_records,
        broker_session_timeout=worker.session_timeout_s,
        broker_heartbeat_interval=worker.session_timeout_s / 4,
        broker_request_timeout=max(40.0, worker.session_timeout_s + 10),
        broker_rebalance_timeout=30.0,
        broker_max_poll_interval=300.0,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=worker.instance_id,
        table_standby_replicas=0,
        worker_redirect_stdouts=False,
    )


class Worker:
    """One worker process: what it holds and how it starts, ticks and stops."""

    def __init__(self, settings: Settings, app: faust.App, shared: Shared, sink: KafkaSink) -> None:
        topics, knobs = settings.topics, settings.worker
        self.app, self.shared, self._topics = app, shared, topics
        self.pumps: dict[str, Pump[Any]] = {}
        for topic, stage, name, partitions in (
            (topics.predictions, ProfilingStage(shared), "profiles", shared.partitions),
            (topics.partials, VerdictStage(shared), "verdicts", shared.partials_partitions),
        ):
            table = app.Table(name, partitions=partitions, key_type=bytes, value_type=bytes)  # bytes: no serializer
            pump: Pump[Any] = Pump(
                stage,
                sink,
                TableStore(app, topic, table),
                interval_s=knobs.snapshot_interval_s,
                idle_after_s=knobs.idle_after_s,
                clock=monotonic,
            )
            self.pumps[topic] = pump
            self._attach(topic, pump)
        app.on_partitions_revoked.connect(self._on_revoked, weak=False)

    def _attach(self, topic: str, pump: Pump[Any]) -> None:
        """One agent per stage; an exception in it is ours and ends the worker."""
        channel = self.app.topic(topic, schema=BatchSchema(), acks=False)

        async def agent(stream: Any) -> None:
            async for event in stream.events():
                try:
                    await pump.take(event.message.partition, event.message.value)
                except Exception as error:
                    await self.app.crash(error)
                    raise

        self.app.agent(channel, name=f"driftline.{topic}", concurrency=1)(agent)

    async def _on_revoked(self, _app: Any, revoked: set[TP], **_options: Any) -> None:
        for topic, pump in self.pumps.items():
            await pump.release([tp.partition for tp in revoked if tp.topic == topic])

    @property
    def is_consuming(self) -> bool:
        """Whether partitions are assigned and their states restored."""
        return not self.app.rebalancing and bool(self.app.tables.recovery.completed.is_set())

    def unready(self) -> str | None:
        """Why this worker is not ready, if so."""
        if self.app.should_stop:
            return "stopping"
        return None if self.is_consuming else "rebalancing or restoring state"

    async def tick(self) -> None:
        """Save what is due, tell of silence, measure lag: twice a second."""
        while not self.app.should_stop:
            await asyncio.sleep(TICK_S)
            if self.is_consuming:
                for topic, pump in self.pumps.items():
                    mine = [tp for tp in self.app.consumer.assignment() if tp.topic == topic]
                    pump.own(tp.partition for tp in mine)
                    await pump.tick()
                    self._measure(topic, pump, mine)

    def _measure(self, topic: str, pump: Pump[Any], mine: list[TP]) -> None:
        for tp in mine:
            end, state = self.app.consumer.highwater(tp), pump.states.get(tp.partition)
            if end is not None and state is not None:
                self.shared.metrics.lag.labels(topic, tp.partition).set(max(0, end - state.next_offset))
        if topic == self._topics.predictions:
            self.shared.metrics.partitions.set(len(mine))

    async def stop(self) -> None:
        """Checkpoint, then leave the group."""
        for pump in self.pumps.values():
            await pump.release(pump.states)
        await self.app.stop()


async def _sizes(consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, topics: dict[str, str]) -> dict[str, int]:
    """Number of partitions of the topics, all of which must be there."""
    missing = sorted(set(topics.values()) - await consumer.topics())
    if missing:
        raise OperatorError(f"no topic {', '.join(missing)}: make the topics with `driftline topics create`")
    return {name: len(await producer.partitions_for(topic)) for name, topic in topics.items()}


@asynccontextmanager
async def _wired(settings: Settings) -> AsyncIterator[tuple[Worker, BaselineFollower]]:
    """Clients connected, baselines read, everything wired, nothing consumed yet."""
    topics = settings.topics
    async with AsyncExitStack() as stack:
        consumer = await stack.enter_async_context(
            opened(AIOKafkaConsumer, settings.kafka, group_id=None, enable_auto_commit=False)
        )
        producer = await stack.enter_async_context(
            opened(AIOKafkaProducer, settings.kafka, enable_idempotence=True, linger_ms=5)
        )
        names = msgspec.structs.asdict(topics)
        sizes = await _sizes(consumer, producer, names)
        shared = Shared(
            Watch(settings.plan),
            sizes["predictions"],
            sizes["partials"],
            settings.worker.max_record_bytes,
            Metrics(version("driftline")),
        )
        follower = BaselineFollower(consumer, topics.baselines, sizes["baselines"], shared)
        await follower.catch_up()
        datadir = stack.enter_context(tempfile.TemporaryDirectory(prefix="driftline-"))
        yield Worker(settings, make_app(settings, datadir), shared, KafkaSink(producer, names)), follower


async def work(settings: Settings) -> None:
    """Run a worker until it is told to stop by SIGTERM or SIGINT, or crashes."""
    async with _wired(settings) as (worker, follower):
        knobs = settings.worker
        async with serving(worker.shared.metrics, worker.unready, knobs.metrics_host, knobs.metrics_port) as port:
            log.info("metrics on http://%s:%d/metrics", knobs.metrics_host, port)
            await _run(worker, follower)


async def _run(worker: Worker, follower: BaselineFollower) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await worker.app.start()
    # What lives as long as the worker is not worth walking by the garbage collector again and again.
    gc.collect()
    gc.freeze()
    tasks = [asyncio.create_task(each) for each in (worker.tick(), follower.follow(), stop.wait())]
    tasks.append(asyncio.create_task(worker.app.wait_until_stopped()))
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    async with asyncio.timeout(STOP_TIMEOUT_S):
        await worker.stop()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
    if worker.app.crash_reason is not None:
        raise worker.app.crash_reason


def run_worker(settings: Settings) -> int:
    """Run a worker; return the process's exit code.

    Raises
    ------
    OperatorError
        Where the configuration or the surroundings are wrong.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for noisy in ("faust", "mode", "aiokafka"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    asyncio.run(work(settings))
    return 0
