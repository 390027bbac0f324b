"""Whatever dies, moves, wakes or comes twice: what is left is what an undisturbed run leaves."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from driftline.detectors.snapshots.envelope import OWN, unseal
from driftline.streams.engine.profiling_stage import ProfilingStage
from driftline.streams.engine.verdict_stage import VerdictStage
from tests.logs import MINUTE_MS, SENSITIVE, START_MS, Shape, baselines, churn, prediction_log, spread, watching
from tests.simulator import STAGES, Outcome, Rehearsal, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from driftline.detectors.errors import DamagedState
    from driftline.detectors.layout.watch import Watch
    from driftline.detectors.verdicts.fleet import FleetState
    from driftline.detectors.windows.profiling import PartitionState
    from driftline.streams.engine.pump import Pump
    from driftline.streams.formats.wire import Outgoing, Raw
    from tests.memory_broker import Place

PARTITIONS = 2
PLACES = [(topic, partition) for topic in STAGES for partition in range(PARTITIONS)]
USUAL = ["poll", "poll", "poll", "save", "crash"]
RARE = ["repeat", "skip", "revoke", "freeze", "thaw"]
ZOMBIES = ["poll", "poll", "save", "freeze", "thaw", "revoke"]
READ_BEFORE = [Turn("poll", place, 200) for place in PLACES[:PARTITIONS]]
N_SCHEDULES = max(300, settings().max_examples)
SEARCH = settings(max_examples=N_SCHEDULES, deadline=None)
SIDELINE = settings(SEARCH, max_examples=N_SCHEDULES // 4)

Schedules = st.SearchStrategy[list[Turn]]


def anywhere(*names: str) -> Schedules:
    amounts = st.one_of(st.integers(0, 8), st.integers(0, 90))
    return st.lists(st.builds(Turn, st.sampled_from(names), st.sampled_from(PLACES), amounts), max_size=40)


def in_one_place(place: Place, names: Sequence[str] = ZOMBIES) -> Schedules:
    """In small steps, so that single cells change."""
    turns = st.lists(
        st.builds(Turn, st.sampled_from(names), st.just(place), st.integers(0, 12)), min_size=8, max_size=20
    )
    return turns.map(lambda found: [*(READ_BEFORE if place[0] == "partials" else []), *found])


TALKATIVE = msgspec.structs.replace(SENSITIVE, events_per_million=1e12)
"""Every odd value is told: so there is more that could get lost."""


@cache
def watch() -> Watch:
    """A baseline changes in mid-log."""
    return watching(TALKATIVE, *baselines(), churn("1", seed=9, effective_from_ms=START_MS + 3 * MINUTE_MS))


def rehearsal(seed: int = 1, n: int = 260, partitions: int = PARTITIONS, **stages: Any) -> Rehearsal:
    found = Rehearsal(watch(), dict.fromkeys(STAGES, partitions), {**STAGES, **stages})
    orderly = Shape(n=n, step_ms=1500, stragglers=0.03, rubbish=0.05)
    log = prediction_log(seed, replace(orderly, fast=0.1, by_broker=0.5, flushes=0.01) if seed % 2 == 0 else orderly)
    for partition, records in enumerate(spread(log, partitions)):
        for each in records:
            by_broker = bool(each.timestamp_type)
            found.broker.publish("predictions", partition, [(each.value, each.timestamp)], by_broker=by_broker)
    return found


def after(schedule: Sequence[Turn], seed: int = 1, **stages: Any) -> Outcome:
    return asyncio.run(rehearsal(seed, **stages).run(schedule))


@cache
def undisturbed(seed: int = 1) -> Outcome:
    return after((), seed)


def test_the_log_has_enough_in_it_to_go_wrong() -> None:
    left = undisturbed()
    assert len(left.verdicts) >= 12
    assert len(left.alerts) >= 30
    assert {len(documents) for documents in [*left.verdicts.values(), *left.alerts.values()]} == {1}
    assert len(left.profiles) == 3 * PARTITIONS
    assert any(b"driftline.alert" not in payload and len(payload) > 10_000 for payload in left.profiles.values())


@SEARCH
@given(anywhere(*USUAL, *RARE))
def test_no_schedule_of_crashes_rebalances_and_zombies_changes_what_is_left(schedule: list[Turn]) -> None:
    assert after(schedule) == undisturbed()


@SIDELINE
@given(st.sampled_from(PLACES).flatmap(in_one_place))
def test_zombies_that_write_over_newer_cells_change_nothing(schedule: list[Turn]) -> None:
    assert after(schedule) == undisturbed()


@SIDELINE
@given(anywhere(*USUAL, *RARE, "idle"))
def test_silence_that_only_a_clock_sees_changes_nothing_final(schedule: list[Turn]) -> None:
    left, whole = after(schedule), undisturbed()
    assert left[:3] == whole[:3]  # the second stage remembers what it said provisionally


QUIET_TURNS = [
    "poll",
    "poll",
    "append",
    "append",
    "idle",
    "settle",
    "settle",
    "save",
    "crash",
    "revoke",
    "freeze",
    "thaw",
]


def growing(**stages: Any) -> Rehearsal:
    """Records are appended while workers run: to one partition all the time, to the other twice, long apart, or never."""
    found = Rehearsal(watch(), dict.fromkeys(STAGES, PARTITIONS), {**STAGES, **stages})
    log = prediction_log(1, Shape(n=140, step_ms=4000))
    quiet = {place for place in range(140) if place in range(10, 20) or place in range(50, 60)}
    for place, entry in enumerate(log):
        found.coming.append((int(place in quiet), entry.value, entry.appended_ms))
    return found


def after_silence(schedule: Sequence[Turn], lie: Callable[[Rehearsal], None] = lambda _: None) -> Outcome:
    """What is left once everything is read and every partition has been silent for long."""
    found = growing()
    lie(found)
    at_last = [Turn(name, place) for name in ("idle", "settle", "settle", "settle") for place in PLACES]
    asyncio.run(found.run(schedule))
    return asyncio.run(found.run(at_last))


def windows_of(left: Outcome) -> set[int]:
    """Starts of the windows that are final."""
    return {orjson.loads(document)["window"]["start_ms"] for [document] in left.verdicts.values()}


@cache
def undisturbed_silence() -> Outcome:
    return after_silence(())


def test_a_partition_that_is_quiet_for_long_holds_no_final_verdict_back() -> None:
    assert len(windows_of(undisturbed_silence())) == 9
    assert len(windows_of(asyncio.run(growing().run(())))) < 9


async def among_rubbish() -> Outcome:
    """A quiet partition gets a record that is rejected before each look at the clock, and it is not read by then."""
    found = growing()
    await found.run(())
    for name in ("idle", *["settle"] * 4):
        found.broker.publish("predictions", 1, [(b"{}", 2 * START_MS)])
        for place in PLACES:
            await found.turn(Turn(name, place))
        await found.turn(Turn("poll", ("predictions", 1), 1))
    return await found.run(())


def test_records_that_are_rejected_do_not_end_a_silence() -> None:
    """A model without a baseline on a partition of its own would hold every final verdict back, for ever."""
    assert asyncio.run(among_rubbish()).verdicts == undisturbed_silence().verdicts


@SIDELINE
@given(anywhere(*QUIET_TURNS))
def test_whenever_a_partition_is_found_idle_the_same_verdicts_become_final(schedule: list[Turn]) -> None:
    assert after_silence(schedule)[:3] == undisturbed_silence()[:3]


def believe_what_was_read(found: Rehearsal) -> None:
    """The log ends where the state does, whatever the broker would say."""
    for owner in set(found.owners.values()):
        pump = owner.pumps["predictions"]

        async def ends(partitions: Iterable[int], pump: Pump[Any] = pump) -> dict[int, int]:
            return {partition: pump.states[partition].next_offset for partition in partitions}

        owner.stores["predictions"].ends = ends  # type: ignore[method-assign]


def test_a_worker_that_lags_would_give_other_verdicts_if_it_said_that_its_partition_is_idle() -> None:
    schedule = [
        Turn("append", PLACES[0], 30),
        *(Turn("poll", place, 90) for place in PLACES[:2]),
        Turn("append", PLACES[0], 110),
        Turn("poll", PLACES[0], 200),
        *(Turn(name, PLACES[1]) for name in ("idle", "settle", "settle")),
    ]
    assert after_silence(schedule)[:2] == undisturbed_silence()[:2]
    assert after_silence(schedule, believe_what_was_read)[:2] != undisturbed_silence()[:2]


@SIDELINE
@given(anywhere(*USUAL, *RARE))
def test_nor_does_one_over_a_log_of_wrong_clocks_changing_timestamps_and_flush_marks(schedule: list[Turn]) -> None:
    assert after(schedule, 2) == undisturbed(2)


SCRIPT = [Turn(name, place, 65) for _ in range(2) for name in ("poll", "save") for place in PLACES]


def writes_of(schedule: Sequence[Turn]) -> int:
    found = rehearsal()

    async def play() -> None:
        for turn in schedule:
            await found.turn(turn)

    asyncio.run(play())
    return len(found.broker.writes)


def test_a_crash_between_any_two_writes_changes_nothing() -> None:
    n_writes = writes_of(SCRIPT)
    assert n_writes > 80
    for number in range(n_writes):
        assert after([Turn("crash", PLACES[0], number), *SCRIPT]) == undisturbed(), f"before write {number}"


# Controls: without a safeguard the same searches find what it was there for.


class CountsAgain(ProfilingStage):
    """Takes in whatever comes, as if it had never come before."""

    def step(self, state: PartitionState, records: Sequence[Raw]) -> tuple[PartitionState, list[Outgoing]]:
        state.next_offset = 0
        for cell in state.cells.values():
            cell.next_offset = 0
        return super().step(state, records)


class BelievesItsOwnCell(ProfilingStage):
    """Goes on where the partition's own cell says, whatever has become of the others."""

    def restore(self, partition: int, saved: Mapping[bytes, bytes]) -> tuple[PartitionState, dict[bytes, DamagedState]]:
        state, damaged = super().restore(partition, saved)
        state.next_offset = unseal(saved[OWN]).next_offset if OWN in saved else 0
        return state, damaged


class BelievesTheFleets(VerdictStage):
    """Likewise."""

    def restore(self, partition: int, saved: Mapping[bytes, bytes]) -> tuple[FleetState, dict[bytes, DamagedState]]:
        state, damaged = super().restore(partition, saved)
        state.next_offset = unseal(saved[OWN]).next_offset if OWN in saved else 0
        return state, damaged


class JudgesAgain(VerdictStage):
    """Takes in partials of windows that are final."""

    def step(self, state: FleetState, records: Sequence[Raw]) -> tuple[FleetState, list[Outgoing]]:
        state.final_ms = 0
        return super().step(state, records)


@pytest.mark.parametrize("names", [("poll", "repeat"), (*USUAL, *RARE)])
def test_without_the_offset_check_the_search_finds_a_violation(names: tuple[str, ...]) -> None:
    search = settings(max_examples=300, deadline=None, phases=[Phase.generate], database=None)
    seed = Random(1)  # noqa: S311 - the search is meant to be repeatable
    find(
        anywhere(*names),
        lambda found: after(found, predictions=CountsAgain) != undisturbed(),
        settings=search,
        random=seed,
    )


def old_cell_under_a_newer_list(place: Place, first: int, second: int, others: int) -> list[Turn]:
    """A zombie saves a cell over a newer one; the owner saves again, without that cell, and a third one restores."""
    names = [("poll", first), ("freeze", 0), ("poll", second), ("save", 0), ("thaw", 96)]
    return [Turn(name, place, n) for name, n in [*names, ("poll", others), ("save", 0), ("revoke", 0)]]


ONE_PARTITION_TWICE = [
    Turn("revoke", PLACES[0]),
    *(Turn("poll", place, 200) for place in PLACES),
    *(Turn(name, PLACES[0]) for name in ("crash", "save")),
]


@pytest.mark.parametrize(
    ("stage", "schedule"),
    [
        ({"predictions": BelievesItsOwnCell}, old_cell_under_a_newer_list(PLACES[0], 40, 80, 2)),
        ({"partials": BelievesTheFleets}, [*READ_BEFORE, *old_cell_under_a_newer_list(PLACES[3], 2, 7, 3)]),
        ({"partials": JudgesAgain}, ONE_PARTITION_TWICE),
    ],
)
def test_without_another_safeguard_a_schedule_shows_what_it_is_there_for(
    stage: dict[str, Any], schedule: list[Turn]
) -> None:
    assert after(schedule) == undisturbed()
    assert after(schedule, **stage) != undisturbed()
