"""The worker: a Faust application with two agents, wired to the pump."""

import asyncio
import logging
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version

import faust
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from driftline.detectors.errors import OperatorError
from driftline.detectors.layout.watch import Watch
from driftline.streams.config.settings import Settings
from driftline.streams.engine.dead_letters import Allowance
from driftline.streams.engine.scheduling import QUEUE_BATCHES
from driftline.streams.engine.shared import Shared
from driftline.streams.kafka.connection import KafkaUnreachable, opened
from driftline.streams.kafka.fetching import MAX_FETCH_BYTES, bounded
from driftline.streams.kafka.recreated import ASKING, Lookup
from driftline.streams.kafka.remedies import typed
from driftline.streams.kafka.topics import stamps_by_producers
from driftline.streams.observability.health import PORT, serving
from driftline.streams.observability.log_throttle import LIBRARIES, Repeats
from driftline.streams.observability.metrics import Metrics
from driftline.streams.observability.watchdog import EXIT_STUCK, Stuck
from driftline.streams.terminal import OnOneLine
from driftline.streams.worker.addresses import faust_broker, faust_credentials
from driftline.streams.worker.allocator import keep_large_buffers_apart
from driftline.streams.worker.baseline_follower import BaselineFollower
from driftline.streams.worker.batching import batch_scheduler
from driftline.streams.worker.sink import STATE_TABLES, KafkaSink, StickyPartitioner
from driftline.streams.worker.worker import Worker

log = logging.getLogger(__name__)

SEND_BYTES = 2**19
"""Of one produced batch; brokers take twice that. aiokafka keeps one request per broker under way, with one batch per
partition in it: with its own 16 KiB, a snapshot of a thousand cells is hundreds of round trips, one after the other."""

STOP_TIMEOUT_S = 15.0
"""For the last snapshots. What follows takes some seconds more: altogether it must stay below a supervisor's patience."""

OUTAGE_S = 3600.0
"""For how long records wait for brokers that are away; aiokafka would give them up, and so the worker end, after 40 s."""


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
        stream_buffer_maxsize=QUEUE_BATCHES,
        stream_wait_empty=False,
        broker_max_poll_records=worker.max_batch_records,
        consumer_max_fetch_size=MAX_FETCH_BYTES,
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


async def _sizes(
    consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, topics: dict[str, str], settings: Settings
) -> dict[str, int]:
    """Number of partitions of the topics, all of which must be there."""
    missing = sorted(set(topics.values()) - await consumer.topics())
    if missing:
        remedy = typed("topics create", settings.kafka, settings.worker.app_id)
        raise OperatorError(f"no topic {', '.join(missing)}: make the topics with {remedy}")
    return {name: len(await producer.partitions_for(topic)) for name, topic in topics.items()}


def _wait_out_outages(producer: AIOKafkaProducer) -> None:
    """Let records wait for brokers for longer than one request may take.

    aiokafka has one setting for both. An hour for a request would be an hour on a connection whose other end is gone.
    """
    records = producer._message_accumulator  # noqa: SLF001
    patience_s = records._batch_ttl  # noqa: SLF001
    assert patience_s == producer._request_timeout_ms / 1000, "aiokafka changed: when do records expire now?"  # noqa: SLF001
    records._batch_ttl = OUTAGE_S  # noqa: SLF001
    producer._request_timeout_ms = int(OUTAGE_S * 1000)  # noqa: SLF001 - for `send` alone: how long it waits for room


def _shared(settings: Settings, sizes: dict[str, int]) -> Shared:
    """What both stages read, before the first baseline."""
    worker = settings.worker
    return Shared(
        Watch(settings.plan),
        sizes["predictions"],
        sizes["partials"],
        worker.max_record_bytes,
        Metrics(version("driftline")),
        Allowance(worker.max_dead_letters_per_minute),
    )


@asynccontextmanager
async def _wired(settings: Settings) -> AsyncIterator[tuple[Worker, BaselineFollower, KafkaSink]]:
    """Clients connected, baselines read, everything wired, nothing consumed yet."""
    topics = settings.topics
    async with AsyncExitStack() as stack:
        consumer, asking = [
            await stack.enter_async_context(opened(AIOKafkaConsumer, settings.kafka, group_id=None, **options))
            for options in ({"enable_auto_commit": False, "auto_offset_reset": "earliest"}, ASKING)
        ]
        producer = await stack.enter_async_context(
            opened(
                AIOKafkaProducer,
                settings.kafka,
                enable_idempotence=True,
                linger_ms=5,
                max_batch_size=SEND_BYTES,
                partitioner=StickyPartitioner(),
            )
        )
        _wait_out_outages(producer)
        names = msgspec.structs.asdict(topics)
        changelogs = {name: f"{settings.worker.app_id}-{name}-changelog" for name in STATE_TABLES}
        # The producer has to know all of them from now on: of a topic that it hears of while Kafka is away, it would say
        # after 40 s that there is none.
        sizes = await _sizes(consumer, producer, names | changelogs, settings)
        shared = _shared(settings, sizes)
        if advice := await stamps_by_producers(settings.kafka, topics.predictions):
            log.warning("%s", advice)
        lookup = Lookup(asking, shared.metrics.contradictions)
        follower = BaselineFollower(consumer, topics.baselines, sizes["baselines"], shared, lookup)
        await follower.catch_up()
        datadir = stack.enter_context(tempfile.TemporaryDirectory(prefix="driftline-"))
        sink = KafkaSink(producer, names | changelogs)
        yield Worker(settings, make_app(settings, datadir), shared, sink, lookup, follower), follower, sink


async def work(settings: Settings) -> None:
    """Run a worker until it is told to stop by SIGTERM or SIGINT, or fails."""
    async with _wired(settings) as (worker, follower, sink):
        knobs = settings.worker
        async with serving(worker.shared.metrics, worker.unready, knobs.metrics_host, knobs.metrics_port) as port:
            if knobs.metrics_port is None and port != PORT:
                log.warning("port %d is taken, by another worker perhaps; this one takes %d", PORT, port)
            log.info("metrics on http://%s:%d/metrics", knobs.metrics_host, port)
            await _run(worker, follower, sink)


async def _run(worker: Worker, follower: BaselineFollower, sink: KafkaSink) -> None:
    """Start, wait for the first thing that ends, stop in order."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    endless = (
        worker.tick(),
        worker.watch(),
        follower.follow(),
        worker.start(),
        stop.wait(),
        worker.failed,
        sink.failed,
    )
    ticking, watching, *others = tasks = [asyncio.ensure_future(each) for each in endless]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in (ticking, watching):  # before the states are released: they would take them up again
        task.cancel()
    # What Kafka has refused tells the operator more than what failed because of it at the same moment.
    failed = [error for task in reversed(tasks) if task in done and (error := task.exception()) is not None]
    try:
        if failed:
            await worker.abandon()
            raise failed[0]
        await _leave(worker)
    finally:
        for task in others:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _leave(worker: Worker) -> None:
    """Save everything and leave the group. What is not acknowledged in time is the next worker's to do again."""
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await worker.stop()
    except TimeoutError as error:
        raise KafkaUnreachable(
            f"told to stop, but Kafka took no snapshot within {STOP_TIMEOUT_S:g} s: "
            "the next worker goes on from the one before, and nothing is lost"
        ) from error


def run_worker(settings: Settings) -> int:
    """Run a worker; return the process's exit code: 0 when it was told to stop, 70 when it was stuck.

    Raises
    ------
    OperatorError
        Where the configuration or the surroundings are wrong; KafkaUnreachable where the last snapshot was not taken.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for noisy in LIBRARIES:
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(Repeats())
        handler.addFilter(OnOneLine())
    # Closed after a clean stop only: it would wait for ever for aiokafka's tasks, which ignore their cancellation
    # while brokers are away. They end with the process.
    runner = asyncio.Runner()
    keep_large_buffers_apart()
    try:
        worker = settings.worker
        with bounded(worker.max_batch_bytes, worker.max_record_bytes, worker.max_batch_records):
            runner.run(work(settings))
    except Stuck as stuck:
        log.critical("%s", stuck)
        return EXIT_STUCK
    runner.close()
    return 0
