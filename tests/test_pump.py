"""The loop of a stage: what is written in which order, where reading goes on, and what is told of what is lost."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

import pytest

from driftline.detectors.errors import OperatorError
from driftline.detectors.plan import Plan
from driftline.detectors.snapshot import OWN, cell_key
from driftline.streams.memory import Broker, MemorySink, MemoryStore, Session, WorkerDied, Write
from driftline.streams.pump import NUDGE_AFTER_S, QUEUE_BATCHES, SEEKS, Pump
from driftline.streams.rehearsal import STAGES, Outcome, Rehearsal, Turn
from driftline.streams.seams import Polled
from driftline.streams.stages import ProfilingStage
from driftline.streams.watchdog import UNREADY_AFTER_S, Watchdog
from tests.logs import SENSITIVE, Shape, baselines, prediction_log, spread, watching

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from driftline.detectors.watch import Watch
    from driftline.streams.memory import Record
    from driftline.streams.wire import Outgoing

P0 = ("predictions", 0)
INTERVAL_S, IDLE_S = 10.0, 30.0


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


@cache
def watch() -> Watch:
    return watching(SENSITIVE, *baselines())


def rehearsal(known: Watch | None = None, partitions: int = 1, n: int = 300) -> Rehearsal:
    found = Rehearsal(known or watch(), dict.fromkeys(STAGES, partitions))
    log = prediction_log(2, Shape(n=n, step_ms=1500, stragglers=0.02, rubbish=0.05))
    for partition, records in enumerate(spread(log, partitions)):
        found.broker.publish("predictions", partition, [(each.value, each.timestamp) for each in records])
    return found


@pytest.fixture(scope="module")
def undisturbed() -> Outcome:
    return asyncio.run(rehearsal().run(()))


class Bench:
    """Stage 1 on one pump, at a broker of one partition, with a clock that is set by hand."""

    def __init__(self, known: Watch | None = None, n: int = 300) -> None:
        source = rehearsal(known, n=n)
        self.broker, self.shared, self.now_s = source.broker, source.shared, 0.0
        self.log = self.broker.logs[P0]
        self.restart()

    def restart(
        self,
        sink: Callable[[Session], MemorySink] = MemorySink,
        store: Callable[[Session, str], MemoryStore] = MemoryStore,
    ) -> None:
        """A new worker."""
        self.session = Session(self.broker)
        self.sink, self.store = sink(self.session), store(self.session, "predictions")
        self.pump: Pump[Any] = Pump(
            ProfilingStage(self.shared),
            self.sink,
            self.store,
            interval_s=INTERVAL_S,
            idle_after_s=IDLE_S,
            clock=lambda: self.now_s,
        )

    def poll(self, most: int) -> list[Record]:
        return self.store.poll(0, most)

    async def take(self, most: int) -> None:
        """One poll."""
        if records := self.poll(most):
            await self.pump.take(0, records)

    async def drain(self) -> None:
        """Polls until nothing comes, then a checkpoint."""
        while records := self.poll(50):
            await self.pump.take(0, records)
        await self.pump.checkpoint(0)

    @property
    def next_offset(self) -> int:
        return int(self.pump.states[0].next_offset)

    @property
    def lost(self) -> float:
        return self.shared.metrics.registry.get_sample_value("driftline_lost_offsets_total") or 0.0


def sent_to(broker: Broker, topic: str) -> list[bytes]:
    return [record.value or b"" for record in broker.records(topic)]


def partials(broker: Broker) -> list[bytes]:
    """Without the marks, which depend on the cut."""
    return sorted(value for value in sent_to(broker, "partials") if b"upto" in value)


# The order of writes.


def kinds(writes: Sequence[Write]) -> str:
    """First letters, repetitions left out: s for sends, v for saved values, c for commits."""
    letters = ["c" if write.kind == "commit" else "s" if write.kind == "send" else "v" for write in writes]
    return "".join(letter for place, letter in enumerate(letters) if place == 0 or letters[place - 1] != letter)


@in_a_loop
async def test_outputs_are_written_before_the_state_and_the_state_before_the_offset() -> None:
    bench = Bench()
    for _ in range(3):
        await bench.take(80)
        await bench.pump.checkpoint(0)
    assert kinds(bench.broker.writes) == "svcsvcsvc"
    saves = [write for write in bench.broker.writes if write.kind == "save"]
    commits = [write for write in bench.broker.writes if write.kind == "commit"]
    assert [write.offset for write in commits] == [80, 160, 240]
    assert [place for place, write in enumerate(saves) if write.key == OWN] == [3, 7, 11]  # after its three cells


@in_a_loop
async def test_nothing_is_saved_while_an_acknowledgement_is_missing() -> None:
    bench = Bench()
    await bench.take(200)
    bench.session.crash(after=0)
    with pytest.raises(WorkerDied):
        await bench.pump.checkpoint(0)
    assert bench.broker.writes == []
    assert bench.broker.committed == {}


@in_a_loop
async def test_a_snapshot_is_due_after_the_interval_and_not_before() -> None:
    bench = Bench()
    for moment, n_commits in ((0.0, 0), (9.9, 0), (10.0, 1), (19.9, 1), (20.0, 2)):
        bench.now_s = moment
        await bench.take(20)
        assert kinds(bench.broker.writes).count("c") == n_commits


@in_a_loop
async def test_a_tick_saves_what_is_due_once() -> None:
    bench = Bench()
    await bench.take(20)
    bench.now_s = INTERVAL_S
    for _ in range(3):
        await bench.pump.tick()
        bench.now_s += INTERVAL_S
    assert kinds(bench.broker.writes).count("c") == 1


@in_a_loop
async def test_a_release_checkpoints_and_forgets() -> None:
    bench = Bench()
    await bench.take(90)
    await bench.pump.release([0, 5])
    assert bench.pump.states == {}
    assert bench.broker.committed == {P0: 90}
    assert "watermark_timestamp_seconds{" not in bench.shared.metrics.exposition().decode()
    bench.restart()
    bench.pump.own([0])
    assert bench.next_offset == 90


@in_a_loop
async def test_what_is_no_longer_owned_is_forgotten_unsaved() -> None:
    bench = Bench()
    await bench.take(90)
    bench.pump.own([])
    assert bench.pump.states == {}
    assert bench.broker.committed == {}


class Refusing(MemorySink):
    """Takes a few records, then none."""

    left = 2

    async def send(self, record: Outgoing) -> Awaitable[None]:
        self.left -= 1
        if self.left < 0:
            raise ConnectionError(record.topic)
        return await super().send(record)


@in_a_loop
async def test_a_state_whose_outputs_could_not_be_sent_is_never_saved() -> None:
    bench = Bench()
    bench.restart(Refusing)
    with pytest.raises(ConnectionError):
        await bench.take(250)
    await bench.pump.release([0])
    assert bench.broker.saved == {}
    assert bench.broker.committed == {}


class Outsider(MemoryStore):
    """The store of a worker that has dropped out of its group: states are saved, offsets are not committed."""

    is_member = False

    async def commit(self, partition: int, next_offset: int) -> bool:
        return self.is_member and await super().commit(partition, next_offset)


@in_a_loop
async def test_a_worker_whose_commits_are_refused_stands_still_for_the_watchdog_until_one_succeeds() -> None:
    bench = Bench()
    bench.restart(store=Outsider)
    dog = Watchdog(lambda: bench.now_s)
    for _ in range(8):
        bench.now_s += UNREADY_AFTER_S / 2
        await bench.take(30)  # records come all the time
        dog.observe({"0": bench.pump.progress(0, 300)})
    assert dog.stuck_for() > UNREADY_AFTER_S
    assert dog.complaint() is not None
    bench.store.is_member = True  # type: ignore[attr-defined]
    bench.now_s += INTERVAL_S
    await bench.pump.tick()
    dog.observe({"0": bench.pump.progress(0, 300)})
    assert dog.complaint() is None
    assert bench.broker.committed == {P0: 240}


@in_a_loop
async def test_a_state_whose_saving_failed_is_restored_from_what_was_saved() -> None:
    bench = Bench()
    await bench.take(100)
    await bench.pump.checkpoint(0)
    await bench.take(100)
    bench.sink.flush()
    bench.session.crash(after=1)  # one cell of three
    with pytest.raises(WorkerDied):
        await bench.pump.checkpoint(0)
    assert bench.pump.states == {}
    assert bench.broker.committed == {P0: 100}


@in_a_loop
async def test_a_batch_that_waited_while_its_partition_was_released_is_left_to_the_next_owner() -> None:
    bench = Bench()
    await bench.take(50)
    waiting = bench.poll(50)
    release = asyncio.create_task(bench.pump.release([0]))
    take = asyncio.create_task(bench.pump.take(0, waiting))
    await asyncio.gather(release, take)
    assert bench.broker.committed == {P0: 50}
    assert bench.pump.states == {}


# Where reading goes on.


@in_a_loop
async def test_a_batch_that_was_queued_before_a_rebalance_is_dropped_and_nothing_is_lost() -> None:
    bench = Bench()
    await bench.take(60)
    await bench.pump.checkpoint(0)
    bench.poll(70)
    queued = [bench.poll(30), bench.poll(30)]
    for records in queued:
        await bench.pump.take(0, records)
        assert bench.next_offset == 60
        assert bench.store.positions[0] == 60
    await bench.drain()
    whole = Bench()
    await whole.drain()
    assert partials(bench.broker) == partials(whole.broker)
    assert bench.broker.saved == whole.broker.saved
    assert bench.lost == 0


@pytest.mark.parametrize("hole", [range(60, 61), range(40, 90)])
@in_a_loop
async def test_a_hole_in_the_log_is_believed_after_some_seeks(hole: range) -> None:
    bench = Bench()
    bench.log.records = [record for record in bench.log.records if record.offset not in hole]
    await bench.take(hole.start)
    for _ in range(SEEKS):
        await bench.take(20)
        assert bench.next_offset == hole.start
        assert bench.store.positions[0] == hole.start
    await bench.take(20)
    assert bench.next_offset == hole.stop + 20
    assert bench.lost == 0


@in_a_loop
async def test_a_poll_that_only_passed_a_hole_moves_the_state_on_and_is_saved() -> None:
    bench = Bench(n=100)
    await bench.take(100)
    end = bench.next_offset
    await bench.pump.take(0, Polled([], range(end, end + 1)))  # the end of a transaction, and of the log
    assert bench.next_offset == end + 1
    await bench.pump.checkpoint(0)
    assert bench.broker.committed[P0] == end + 1


@in_a_loop
async def test_a_poll_that_began_above_the_state_is_dropped_though_it_only_passed_a_hole() -> None:
    bench = Bench(n=100)
    await bench.take(50)
    await bench.pump.take(0, Polled([], range(100, 101)))  # 50 records lie in between, and were lost on the way
    assert bench.next_offset == 50
    await bench.drain()
    assert bench.next_offset == bench.log.end


@in_a_loop
async def test_records_that_come_again_are_skipped_and_counted_as_such() -> None:
    bench = Bench()
    await bench.take(60)
    bench.store.positions[0] = 20
    await bench.take(60)
    assert bench.next_offset == 80
    value = bench.shared.metrics.registry.get_sample_value("driftline_records_total", {"result": "replay_skipped"})
    assert value == 40


@in_a_loop
async def test_a_partition_with_lag_that_brings_nothing_is_read_again_from_its_state() -> None:
    bench = Bench()
    await bench.take(60)
    bench.poll(1000)  # and the queue was emptied
    end = bench.log.end
    assert not await bench.pump.nudge(0, end)
    bench.now_s = NUDGE_AFTER_S
    assert await bench.pump.nudge(0, end)
    assert not await bench.pump.nudge(0, end)
    assert not await bench.pump.nudge(7, end)
    await bench.drain()
    assert bench.next_offset == end
    bench.now_s += NUDGE_AFTER_S
    assert not await bench.pump.nudge(0, end)


async def silent_beside_another(batches: int) -> bool:
    """Let partition 1 bring batches that take long, and tell whether partition 0, which has lag, is nudged."""
    bench = Bench()
    await bench.take(60)
    bench.pump.own([0, 1])
    other = [replace(record, partition=1) for record in bench.poll(batches)]
    for offset, record in enumerate(other):
        bench.now_s += NUDGE_AFTER_S / 2
        await bench.pump.take(1, [replace(record, offset=offset)])
    return await bench.pump.nudge(0, bench.log.end)


@in_a_loop
async def test_what_waits_behind_slow_batches_of_others_is_not_read_again_before_its_turn() -> None:
    longest = 2 * (QUEUE_BATCHES + 2)
    assert not await silent_beside_another(3)
    assert not await silent_beside_another(longest - 1)
    assert await silent_beside_another(longest + 1)


# Retention.


@in_a_loop
async def test_offsets_that_retention_took_are_counted_exactly_and_told(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    await bench.take(60)
    await bench.pump.checkpoint(0)
    bench.restart()
    bench.log.truncate(130)
    with caplog.at_level(logging.ERROR):
        await bench.drain()
    assert bench.lost == 70
    assert caplog.messages == ["partition 0: offsets 60 to 129 are gone from the log"]
    assert bench.next_offset == bench.log.end


@in_a_loop
async def test_a_worker_that_retention_overtakes_while_it_runs_counts_too() -> None:
    bench = Bench()
    await bench.take(60)
    bench.log.truncate(130)
    await bench.take(20)
    bench.log.truncate(170)
    await bench.take(20)
    assert bench.lost == 70 + 20


@in_a_loop
async def test_a_queued_batch_is_not_mistaken_for_where_the_log_begins() -> None:
    bench = Bench()
    await bench.take(60)
    bench.poll(140)
    queued = bench.poll(30)
    bench.log.truncate(130)
    await bench.pump.take(0, queued)
    assert bench.lost == 70
    assert bench.next_offset == bench.store.positions[0] == 130
    await bench.drain()
    assert bench.lost == 70


@in_a_loop
async def test_a_log_whose_beginning_was_gone_before_the_first_worker_came_has_lost_nothing() -> None:
    bench = Bench()
    bench.log.truncate(100)
    await bench.drain()
    assert bench.lost == 0
    assert bench.next_offset == bench.log.end


# Silence.


@in_a_loop
async def test_an_idle_partition_is_told_of_once_until_records_come_again() -> None:
    bench = Bench()
    await bench.take(60)
    counts = []
    for moment in (29.0, 30.0, 31.0, 90.0):
        bench.now_s = moment
        await bench.pump.tick()
        bench.sink.flush()
        counts.append(len(sent_to(bench.broker, "partials")))
    assert counts[0] < counts[1] == counts[2] == counts[3]
    await bench.take(1)
    bench.now_s = 130.0
    await bench.pump.tick()
    bench.sink.flush()
    assert len(sent_to(bench.broker, "partials")) > counts[3]


# Damage.

POLLS = [Turn(name, place, 70) for _ in range(2) for name in ("poll", "save") for place in (P0, ("partials", 0))]


async def damaged(place: tuple[str, int], key: bytes, value: bytes | None) -> tuple[Rehearsal, Outcome]:
    """A run in which one saved value is replaced, or removed, before a new worker takes over."""
    found = rehearsal()
    for turn in POLLS:
        await found.turn(turn)
    saved = found.broker.saved[place]
    if value is None:
        del saved[key]
    else:
        assert key in saved or key.startswith(b"foreign")
        saved[key] = value
    found.replace(Turn("", place))
    await found.turn(Turn("poll", place, 10))
    return found, await found.run([Turn("save", each) for each in found.places])


CHURN = cell_key("churn", "1")


@pytest.mark.parametrize("place", [P0, ("partials", 0)])
@pytest.mark.parametrize(
    ("key", "value"),
    [(CHURN, b"driftline"), (CHURN, None), (OWN, b"\x00" * 100), (b"foreign|1", b"?"), (b"foreign", b"?")],
)
@in_a_loop
async def test_a_damaged_cell_is_rebuilt_from_the_log_as_if_nothing_had_been(
    place: tuple[str, int], key: bytes, value: bytes | None, undisturbed: Outcome, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        found, left = await damaged(place, key, value)
    assert left == undisturbed
    assert any("read again from its beginning" in message for message in caplog.messages)
    stage = {"predictions": "profiling", "partials": "verdict"}[place[0]]
    assert found.metrics.registry.get_sample_value("driftline_damaged_snapshots_total", {"stage": stage}) == 1
    caplog.clear()
    found.replace(Turn("", place))  # what was damaged has been written over, or removed
    assert await found.run(()) == undisturbed
    assert caplog.messages == []


@in_a_loop
async def test_a_damaged_cell_that_the_log_no_longer_reaches_starts_afresh_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    await bench.take(200)
    await bench.pump.checkpoint(0)
    bench.broker.saved[P0][CHURN] = b"?"
    bench.log.truncate(150)
    bench.restart()
    with caplog.at_level(logging.ERROR):
        await bench.drain()
    assert [message.split(": ", 1)[1] for message in caplog.messages] == [
        "snapshot of 1 bytes: wrong checksum; left out, the log is read again from its beginning",
        "offsets 0 to 149 are gone from the log",
    ]
    assert bench.lost == 150
    assert bench.next_offset == bench.log.end
    assert {key[0] for key in bench.pump.states[0].cells} == {"churn", "fraud"}


# What an operator must put right.


async def saved_by(known: Watch, partitions: int) -> Broker:
    found = rehearsal(known, partitions)
    await found.run(())
    return found.broker


@pytest.mark.parametrize(
    ("topic", "known", "message"),
    [
        ("predictions", None, r"partitions of the predictions topic = 2, but the saved state has 1: .* --app-id"),
        ("partials", None, r"partitions of the partials topic = 2, but the saved state has 1: .* --app-id"),
        ("predictions", Plan(window_ms=30_000), r"plan.window_ms = 30000, but the saved state has 60000: .* --app-id"),
    ],
)
@in_a_loop
async def test_a_state_of_another_shape_is_refused(topic: str, known: Plan | None, message: str) -> None:
    before = await saved_by(watch(), 1)
    after = rehearsal(watching(known, *baselines()) if known else None, 1 if known else 2)
    after.broker.saved = before.saved
    with pytest.raises(OperatorError, match=message):
        after.owners[topic, 0].pumps[topic].own([0])
