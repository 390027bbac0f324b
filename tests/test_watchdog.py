"""Who stands still, and who only waits."""

from __future__ import annotations

import pytest

from driftline.streams.engine.scheduling import QUEUE_BATCHES, Turns
from driftline.streams.observability.watchdog import EXIT_AFTER_S, LONGEST_TICK_S, UNREADY_AFTER_S, Progress, Watchdog
from tests.memory_broker import MemoryStore
from tests.pump_bench import Bench, in_a_loop


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def after(seconds: float, before: Progress, now: Progress, tick_s: float = 1.0) -> Watchdog:
    """A watchdog that saw a partition stand still for so long, and then once more."""
    clock = Clock()
    dog = Watchdog(clock)
    while clock.now_s < seconds:
        dog.observe({"a": before})
        clock.now_s += tick_s
    dog.observe({"a": now})
    return dog


@pytest.mark.parametrize(
    "now",
    [
        Progress(6, 9, 5),  # taken in
        Progress(5, 9, 5),  # saved
        Progress(5, 9, 4, 8),  # behind others in the queue
        Progress(9, 9, 9),  # nothing to do
    ],
)
def test_a_partition_that_moves_or_rests_or_waits_for_its_turn_is_not_stuck(now: Progress) -> None:
    dog = after(EXIT_AFTER_S, Progress(5, 9, 4, 7), now)
    assert dog.stuck_for() == 0
    assert dog.complaint() is None


@pytest.mark.parametrize("still", [Progress(5, 9, 5, 7), Progress(9, 9, 5, 7)])
def test_one_that_has_lag_or_an_unsaved_state_and_does_not_move_is_stuck(still: Progress) -> None:
    dog = after(EXIT_AFTER_S, still, still)
    assert dog.stuck_for() == EXIT_AFTER_S
    assert "a: no progress" in str(dog.complaint())
    assert after(UNREADY_AFTER_S - 1, still, still).complaint() is None


def test_an_outage_that_has_just_ended_is_not_held_against_the_worker_but_it_is_not_ready() -> None:
    still, clock = Progress(5, 9, 5), Clock()
    dog = Watchdog(clock)
    for clock.now_s in range(int(EXIT_AFTER_S)):
        dog.observe({"a": still})
        if clock.now_s == EXIT_AFTER_S - 10:
            dog.excuse()
    assert dog.stuck_for() == 9
    assert "a: no progress" in str(dog.complaint())


def test_a_process_that_was_paused_is_not_stuck() -> None:
    still = Progress(5, 9, 5)
    assert after(10 * EXIT_AFTER_S, still, still, tick_s=10 * EXIT_AFTER_S).stuck_for() == LONGEST_TICK_S


class Fetched(MemoryStore):
    """The store of a worker that has fetched from all partitions, and polls them by turns."""

    def is_fetched(self, partition: int) -> bool:  # noqa: ARG002 - all alike
        return True


@in_a_loop
async def test_a_stage_waits_while_another_works_on_what_was_fetched_before() -> None:
    turns = Turns(Clock(), polls=5)
    one, other = (Bench(turns=turns) for _ in range(2))
    other.restart(store=Fetched)
    other.pump.own([0])
    waited = []
    for _ in range(20):
        waited.append(other.pump.progress(0, 300).waited)
        await one.take(1)
    in_round = 3 * QUEUE_BATCHES + 5 * 2  # the pump before the restart holds no partition
    assert waited == [*range(in_round), *[in_round] * (20 - in_round)]


@in_a_loop
async def test_a_partition_that_is_passed_over_is_stuck_though_the_worker_works() -> None:
    longest = QUEUE_BATCHES + 2 * 2
    for store, waited in ((MemoryStore, {0}), (Fetched, set(range(1, longest + 1)))):
        bench, clock = Bench(), Clock()
        bench.restart(store=store)
        dog = Watchdog(clock)
        bench.pump.own([0, 1])
        seen = set()
        for _ in range(60):
            bench.store.positions[0] = 0
            await bench.take(1)  # the same record again and again: partition 0 works
            seen.add(bench.pump.progress(1, 300).waited)
            dog.observe({"1": bench.pump.progress(1, 300)})
            clock.now_s += 1.0
        assert seen == waited
        assert dog.stuck_for() == 60 - len(waited)
        assert "1: no progress" in str(dog.complaint())
