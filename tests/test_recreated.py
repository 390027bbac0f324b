"""A log that is not the one that was read is refused, whatever it holds; what retention and holes leave is not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.detectors.errors import OperatorError
from driftline.streams.engine.log_checks import KNOWN_S
from driftline.streams.engine.profiling_stage import ProfilingStage
from driftline.streams.engine.pump import Pump
from driftline.streams.engine.scheduling import Turns
from driftline.streams.formats.wire import Remains
from driftline.streams.kafka.recreated import ASKING, Lookup, bookmark_after, bookmark_of
from driftline.streams.observability.metrics import Metrics
from tests.fleet import Workers, logged, publish, settings_for, topic_sizes
from tests.logs import Shape, baselines, prediction_log, spread
from tests.memory_broker import Log, MemorySink, MemoryStore, Record, Session
from tests.onlooker import Onlooker
from tests.pump_bench import INTERVAL_S, P0, Bench, in_a_loop, rehearsal

if TYPE_CHECKING:
    from pathlib import Path

    from driftline.detectors.documents.bookmark import Bookmark
    from driftline.streams.config.settings import Settings
    from driftline.streams.formats.wire import Raw

ELSE = "another record lies at offset|ends at offset"


def made_again(bench: Bench, n: int, first: int = 0) -> None:
    """Delete the topic and make it again with so many records of another log."""
    log = spread(prediction_log(99, Shape(n=max(1, n), step_ms=1400)), 1)[0][:n]
    bench.broker.logs[P0] = Log([], first, first)
    for record in log:
        bench.broker.logs[P0].append(Record("predictions", 0, 0, record.timestamp, record.value))


async def goes_on(bench: Bench) -> None:
    """A consumer whose position is out of range begins at 0; where nothing lies there, only the end tells."""
    bench.store.positions[0] = 0
    await bench.take(1000)
    await bench.pump.nudge(0, bench.broker.logs[P0].end)
    bench.pump.own([0])  # assigned at last, where a batch was queued before
    await bench.pump.tick()


@settings(max_examples=30, deadline=None)
@given(
    read=st.integers(1, 200),
    n=st.integers(0, 400),
    how=st.sampled_from(["stopped", "running", "queue", "truncated"]),
    has_just_asked=st.booleans(),
)
def test_a_topic_that_was_made_again_is_refused_and_nothing_of_it_is_skipped(
    read: int, n: int, how: str, *, has_just_asked: bool
) -> None:
    @in_a_loop
    async def play() -> None:
        bench = Bench()
        await bench.take(read)
        await bench.pump.checkpoint(0)
        if has_just_asked:
            bench.now_s += INTERVAL_S
            await bench.take(50)
            await bench.pump.checkpoint(0)
        if how == "truncated":
            kept = min(n, bench.next_offset - 1)
            log = bench.broker.logs[P0]
            bench.broker.logs[P0] = Log(log.records[:kept], 0, kept)
        else:
            made_again(bench, n)
        if how in ("stopped", "queue"):
            bench.restart()
        if how == "stopped":
            bench.pump.own([0])
        before = bench.shared.metrics.registry.get_sample_value("driftline_records_in_total")
        with pytest.raises(
            OperatorError, match=rf"'predictions', partition 0: .*({ELSE}).*`driftline reset`.*--app-id"
        ):
            await goes_on(bench)
        assert bench.shared.metrics.registry.get_sample_value("driftline_records_in_total") == before

    play()


@settings(max_examples=30, deadline=None)
@given(read=st.integers(1, 150), more=st.integers(1, 100))
def test_a_new_log_that_is_read_on_without_a_sign_is_refused_before_anything_of_it_is_saved(
    read: int, more: int
) -> None:
    """It grew beyond the state before it was fetched from: offsets just go on."""

    @in_a_loop
    async def play() -> None:
        bench = Bench()
        await bench.take(read)
        await bench.pump.checkpoint(0)
        made_again(bench, 300)
        saved = dict(bench.broker.saved[P0])
        bench.now_s += INTERVAL_S
        with pytest.raises(OperatorError, match=f"another record lies at offset {read - 1},"):
            await bench.take(more)
        assert bench.broker.saved[P0] == saved
        bench.restart()
        with pytest.raises(OperatorError, match=f"another record lies at offset {read - 1},"):
            await bench.take(more)

    play()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 250), st.integers(0, 300), st.sets(st.integers(0, 299), max_size=40), st.integers(0, 60))
def test_the_same_log_is_never_refused_whatever_retention_and_compaction_took(
    read: int, start: int, holes: set[int], repeated: int
) -> None:
    @in_a_loop
    async def play() -> None:
        bench = Bench()
        await bench.take(read)
        await bench.pump.checkpoint(0)
        bench.log.records = [record for record in bench.log.records if record.offset not in holes]
        bench.log.truncate(min(start, bench.log.end))
        bench.store.positions[0] = max(0, read - repeated)  # records that were handed over come again
        await bench.take(50)
        bench.restart()
        bench.pump.own([0])
        await bench.pump.tick()
        await bench.drain()
        assert bench.next_offset >= max(read, *(record.offset + 1 for record in bench.log.records), 0)

    play()


class CountingStore(MemoryStore):
    """Notes which partitions' logs it was asked about."""

    def __init__(self, session: Session, topic: str) -> None:
        super().__init__(session, topic)
        self.checked: list[int] = []

    async def check(self, partition: int, bookmark: Bookmark) -> None:
        self.checked.append(partition)
        await super().check(partition, bookmark)


class Successor:
    """A worker that takes up partitions whose states one before it has saved, with a clock that is set by hand."""

    def __init__(self, partitions: int) -> None:
        source, self.now_s = rehearsal(partitions=partitions), 0.0
        self.broker, self._shared = source.broker, source.shared
        asyncio.run(self._read_and_saved(partitions))
        self.pump, self.store = self._started()

    def _started(self) -> tuple[Pump[Any], CountingStore]:
        session = Session(self.broker)
        store, turns = CountingStore(session, "predictions"), Turns(lambda: self.now_s)
        stage, sink = ProfilingStage(self._shared), MemorySink(session)
        return Pump(stage, sink, store, interval_s=10.0, idle_after_s=30.0, turns=turns), store

    async def _read_and_saved(self, partitions: int) -> None:
        pump, store = self._started()
        for partition in range(partitions):
            await pump.take(partition, store.poll(partition, 20))
            await pump.checkpoint(partition)


def test_of_partitions_that_are_taken_up_together_one_is_held_against_its_log() -> None:
    """Each costs a few requests one after the other; a topic is made again as a whole."""
    worker = Successor(4)

    async def play() -> None:
        worker.pump.own(range(4))
        await worker.pump.tick()
        await worker.pump.tick()

    asyncio.run(play())
    assert worker.store.checked == [0]


def test_half_a_minute_later_the_next_partition_is_held_against_its_log() -> None:
    worker = Successor(4)

    async def play() -> None:
        worker.pump.own([0, 1])
        await worker.pump.tick()
        worker.now_s = KNOWN_S
        worker.pump.own([0, 1, 2, 3])
        await worker.pump.tick()

    asyncio.run(play())
    assert worker.store.checked == [0, 1]


def test_just_before_that_it_is_not() -> None:
    """A worker that is given one partition after the other does not ask for each of them."""
    worker = Successor(4)

    async def play() -> None:
        worker.pump.own([0, 1])
        await worker.pump.tick()
        worker.now_s = KNOWN_S - 1
        worker.pump.own([0, 1, 2, 3])
        await worker.pump.tick()

    asyncio.run(play())
    assert worker.store.checked == [0]


def test_of_partitions_that_are_taken_up_together_the_one_that_is_checked_shows_that_the_topic_was_made_again() -> None:
    """Control: what the others rest on. Nothing of the new log is taken in, whichever partition brings it first."""
    worker = Successor(4)
    for partition in range(4):
        log = worker.broker.logs["predictions", partition] = Log([], 0, 0)
        for record in spread(prediction_log(99, Shape(n=60)), 1)[0]:
            log.append(Record("predictions", partition, 0, record.timestamp, record.value))

    async def play() -> None:
        worker.pump.own(range(4))
        await worker.pump.take(3, worker.store.poll(3, 20))

    with pytest.raises(OperatorError, match="partition 3: another record lies at offset 19"):
        asyncio.run(play())
    assert worker.store.checked == [3]


def test_records_that_come_again_after_a_rebalance_are_not_asked_for_one_partition_after_the_other() -> None:
    """Most partitions begin below their state then; a request for each held consuming up for half a minute."""
    worker = Successor(4)

    async def play() -> None:
        for partition in range(4):
            worker.store.positions[partition] = 0
            await worker.pump.take(partition, worker.store.poll(partition, 5))
        assert worker.store.checked == [0]
        worker.now_s = KNOWN_S
        await worker.pump.take(1, worker.store.poll(1, 5))

    asyncio.run(play())
    assert worker.store.checked == [0, 1]


def test_a_log_that_ends_before_the_state_is_found_though_another_partition_was_just_checked() -> None:
    worker = Successor(2)

    async def play() -> None:
        worker.pump.own([0, 1])
        await worker.pump.tick()
        worker.broker.logs["predictions", 1] = Log([], 0, 0)
        await worker.pump.nudge(1, 0)

    with pytest.raises(OperatorError, match=r"partition 1: the log ends at offset 0"):
        asyncio.run(play())
    assert worker.store.checked == [0, 1]


def test_only_what_could_be_read_whole_is_remembered_and_never_what_lies_further_back() -> None:
    records: list[Raw] = [Record("p", 0, offset, 7, b"x") for offset in (3, 4)]
    cut: Raw = Record("p", 0, 5, 7, Remains("too_large", b"x" * 10, 99))
    assert bookmark_after([*records, cut], None) == bookmark_of(records[1])
    assert bookmark_after(records[:1], bookmark_of(records[1])) == bookmark_of(records[1])
    assert bookmark_after([cut], None) is None
    assert bookmark_of(Record("p", 0, 3, 8, b"x")) != bookmark_of(records[0])
    assert bookmark_of(Record("p", 0, 3, 7, None)) != bookmark_of(records[0])


# On a real Kafka.


async def _made(bootstrap: str, sizes: dict[str, int]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        while sizes:
            found = await admin.create_topics([NewTopic(name, n, 1) for name, n in sizes.items()])
            sizes = {name: sizes[name] for name, code, *_ in found.topic_errors if code}
    finally:
        await admin.close()


async def _deleted(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topic])
    finally:
        await admin.close()


async def _filled(settings: Settings, seed: int, n: int) -> None:
    topic, log = settings.topics.predictions, spread(prediction_log(seed, Shape(n=n)), 1)[0]
    records = [Record(topic, 0, record.offset, record.timestamp, record.value) for record in log]
    await publish(settings, baselines(), [records])


@pytest.mark.kafka
@pytest.mark.parametrize("n", [300, 4000])
def test_a_running_worker_ends_when_predictions_was_deleted_and_made_again(kafka: str, tmp_path: Path, n: int) -> None:
    made, config = settings_for(kafka, f"again-{n}", tmp_path)
    asyncio.run(_made(kafka, topic_sizes(made, 1)))
    asyncio.run(_filled(made, 1, 1500))
    with Workers(config) as workers:
        process = workers.start()
        asyncio.run(_read_to_the_end(made, 1500))
        asyncio.run(_deleted(kafka, made.topics.predictions))
        asyncio.run(_made(kafka, {made.topics.predictions: 1}))
        asyncio.run(_filled(made, 2, n))
        assert process.wait(45) == 2
    assert "The topic was deleted and made again" in logged(config)
    with Workers(config) as workers:
        assert workers.start().wait(45) == 2  # and so at the next start


@pytest.mark.kafka
@pytest.mark.parametrize("stage", ["predictions", "partials"])
def test_a_topic_that_was_made_again_while_no_worker_ran_is_counted_and_refused_in_one_message(
    kafka: str, tmp_path: Path, stage: str
) -> None:
    """Whichever comes first, the tick or a batch: without a traceback of Faust's before the message that helps."""
    made, config = settings_for(kafka, f"stopped-{stage}", tmp_path)
    asyncio.run(_made(kafka, topic_sizes(made, 1)))
    asyncio.run(_filled(made, 1, 1500))
    with Workers(config) as workers:
        workers.start()
        asyncio.run(_read_to_the_end(made, 1500))
        assert workers.stop() == [0]
    topic = getattr(made.topics, stage)
    asyncio.run(_deleted(kafka, topic))
    asyncio.run(_made(kafka, {topic: 1}))
    asyncio.run(_filled(made, 2, 4000))
    with Workers(config) as workers:
        process = workers.start()
        assert asyncio.run(_counted(Onlooker(process, workers.logs[process.pid]), topic))
        assert process.wait(45) == 2
        told = workers.logs[process.pid].read_text(encoding="utf-8")
    assert "Traceback" not in told
    assert told.splitlines()[-1].startswith(f"driftline: topic {topic!r}, partition 0: another record lies at offset")


async def _counted(onlooker: Onlooker, topic: str) -> bool:
    """Whether a worker shows a contradiction in its metrics before it ends."""
    sample = f'driftline_log_contradictions_total{{topic="{topic}"}}'
    while onlooker.process.poll() is None:
        if sample in (await onlooker.get("/metrics"))[1]:
            return True
        await asyncio.sleep(0.05)
    return False


async def _read_to_the_end(settings: Settings, end: int) -> None:
    """Wait until a worker's group has committed the end of the log."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka.bootstrap_servers, group_id=settings.worker.app_id)
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            while (await consumer.committed(TopicPartition(settings.topics.predictions, 0)) or 0) < end:  # noqa: ASYNC110 - it is the broker that is asked
                await asyncio.sleep(0.2)
    finally:
        await consumer.stop()


@pytest.mark.kafka
def test_what_a_broker_has_is_held_against_a_bookmark(kafka: str, tmp_path: Path) -> None:
    async def play() -> None:
        made, _ = settings_for(kafka, "lookup", tmp_path)
        await _made(kafka, {made.topics.predictions: 1, made.topics.baselines: 1})
        await _filled(made, 1, 50)
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka, **ASKING)
        await consumer.start()
        try:
            lookup, topic = Lookup(consumer, Metrics("0").contradictions), made.topics.predictions
            log = spread(prediction_log(1, Shape(n=50)), 1)[0]
            end = len(log)
            for offset, record in enumerate(log):
                await lookup.check(topic, 0, msgspec.structs.replace(bookmark_of(record), offset=offset))
            assert await lookup._view(topic, 0, end) == (end, None)
            assert await lookup._view(topic, 0, end + 7) == (end, None)
            assert await lookup._view("no-such-topic", 0, 0) == (0, None)
        finally:
            await consumer.stop()

    asyncio.run(play())
