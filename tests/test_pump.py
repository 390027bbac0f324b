"""The loop of a stage: what is written in which order, where reading goes on, and how losses are reported."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from driftline.detectors.snapshots.envelope import OWN
from driftline.streams.engine.pump import SEEKS, Pump
from driftline.streams.engine.scheduling import QUEUE_BATCHES, REST_S, Turns
from driftline.streams.engine.verdict_stage import VerdictStage
from driftline.streams.formats.polled import Polled
from driftline.streams.observability.watchdog import UNREADY_AFTER_S, Watchdog
from tests.memory_broker import MemorySink, MemoryStore, Session, WorkerDied, Write
from tests.pump_bench import INTERVAL_S, P0, Bench, in_a_loop, partials, rehearsal, sent_to

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from driftline.detectors.documents.bookmark import Bookmark
    from driftline.streams.formats.wire import Outgoing


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

    def is_fetched(self, partition: int) -> bool:  # noqa: ARG002 - all alike
        return True

    async def check(self, partition: int, bookmark: Bookmark) -> None:
        pass  # it reads partition 1, too, of which there is no log

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
        await bench.pump.take(1, [replace(bench.log.read(0, 1)[0], partition=1)])  # of another partition too
        dog.observe({"0": bench.pump.progress(0, 300)})
    assert dog.stuck_for() > UNREADY_AFTER_S
    assert dog.complaint() is not None
    bench.store.is_member = True  # type: ignore[attr-defined]
    bench.now_s += INTERVAL_S
    await bench.pump.tick()
    dog.observe({"0": bench.pump.progress(0, 300)})
    assert dog.complaint() is None
    assert bench.broker.committed == {P0: 240, ("predictions", 1): 1}


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
    await asyncio.gather(bench.pump._release(0), bench.pump.take(0, waiting))  # begun in this order
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
    bench.now_s = REST_S
    assert await bench.pump.nudge(0, end)
    assert not await bench.pump.nudge(0, end)
    assert not await bench.pump.nudge(7, end)
    await bench.drain()
    assert bench.next_offset == end
    bench.now_s += REST_S
    assert not await bench.pump.nudge(0, end)


@in_a_loop
async def test_what_comes_after_a_silence_has_as_much_time_as_what_comes_in_a_stream() -> None:
    bench = Bench()
    await bench.take(60)
    bench.now_s = 10 * REST_S
    assert not await bench.pump.nudge(0, bench.next_offset)
    bench.poll(100)  # on their way through a queue
    assert not await bench.pump.nudge(0, bench.next_offset + 100)
    bench.now_s += REST_S
    assert await bench.pump.nudge(0, bench.next_offset + 100)


async def is_nudged_behind(batches: int, took_s: float) -> bool:
    """Let partition 1 bring batches that take so long, and tell whether partition 0, which has lag, is nudged."""
    bench = Bench()
    await bench.take(60)
    bench.pump.own([0, 1])
    other = [replace(record, partition=1) for record in bench.poll(batches)]
    for offset, record in enumerate(other):
        bench.now_s += took_s
        await bench.pump.take(1, [replace(record, offset=offset)])
    return await bench.pump.nudge(0, bench.log.end)


@in_a_loop
async def test_what_waits_behind_slow_batches_of_others_is_not_read_again_before_its_turn() -> None:
    longest = QUEUE_BATCHES + 2 * 2
    assert not await is_nudged_behind(longest, REST_S / 2)
    assert await is_nudged_behind(longest + 1, REST_S / 2)


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
    assert caplog.messages == [
        "predictions[0]: 70 records lost, offsets 60 to 129: retention took them before they were read"
    ]
    assert bench.next_offset == bench.log.end


@in_a_loop
async def test_partials_that_retention_took_are_counted_apart() -> None:
    found = rehearsal()
    await found.run(())
    log = found.broker.logs["partials", 0]
    found.broker.saved, found.broker.committed = {}, {}
    session = Session(found.broker)
    store = MemoryStore(session, "partials")
    times: dict[str, Any] = {"interval_s": INTERVAL_S, "idle_after_s": INTERVAL_S, "turns": Turns(lambda: 0.0)}
    pump = Pump(VerdictStage(found.shared), MemorySink(session), store, **times)
    await pump.take(0, store.poll(0, 3))
    log.truncate(5)
    await pump.take(0, store.poll(0, 3))
    assert pump.states[0].next_offset == 8
    assert found.metrics.registry.get_sample_value("driftline_lost_partials_total") == 2


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
