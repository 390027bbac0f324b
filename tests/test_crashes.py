"""Whatever dies, moves, wakes or comes twice: what is left is what an undisturbed run leaves."""

from __future__ import annotations

import asyncio
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from driftline.detectors.snapshot import OWN, unseal
from driftline.streams.rehearsal import STAGES, Outcome, Rehearsal, Turn
from driftline.streams.stages import ProfilingStage, VerdictStage
from tests.logs import MINUTE_MS, SENSITIVE, START_MS, Shape, baselines, churn, prediction_log, spread, watching

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from driftline.detectors.errors import DamagedState
    from driftline.detectors.profiling import PartitionState
    from driftline.detectors.watch import Watch
    from driftline.streams.wire import Outgoing, Raw

PARTITIONS = 2
PLACES = [(topic, partition) for topic in STAGES for partition in range(PARTITIONS)]
USUAL = ["poll", "poll", "poll", "save", "crash"]
RARE = ["repeat", "skip", "revoke", "freeze", "thaw"]
SEARCH = settings(
    max_examples=max(300, settings.default.max_examples),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def turns(*names: str) -> st.SearchStrategy[list[Turn]]:
    amounts = st.one_of(st.integers(0, 8), st.integers(0, 90))
    one = st.builds(Turn, st.sampled_from(names), st.sampled_from(PLACES), amounts, st.booleans())
    return st.lists(one, max_size=40)


@cache
def watch() -> Watch:
    """A baseline changes in mid-log."""
    return watching(SENSITIVE, *baselines(), churn("1", seed=9, effective_from_ms=START_MS + 3 * MINUTE_MS))


def rehearsal(seed: int = 1, n: int = 260, partitions: int = PARTITIONS, **stages: Any) -> Rehearsal:
    found = Rehearsal(watch(), dict.fromkeys(STAGES, partitions), {**STAGES, **stages})
    log = prediction_log(seed, Shape(n=n, step_ms=1500, stragglers=0.03, rubbish=0.05))
    for partition, records in enumerate(spread(log, partitions)):
        found.broker.publish("predictions", partition, [(each.value, each.timestamp) for each in records])
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
@given(turns(*USUAL, *RARE))
def test_no_schedule_of_crashes_rebalances_and_zombies_changes_what_is_left(schedule: list[Turn]) -> None:
    assert after(schedule) == undisturbed()


@settings(SEARCH, max_examples=SEARCH.max_examples // 3)
@given(turns(*USUAL, *RARE, "idle"))
def test_silence_that_only_a_clock_sees_changes_nothing_final(schedule: list[Turn]) -> None:
    left, whole = after(schedule), undisturbed()
    assert left[:3] == whole[:3]  # the second stage remembers what it said provisionally


SCRIPT = [Turn(name, place, 45) for _ in range(3) for name in ("poll", "save") for place in PLACES]


def writes_of(schedule: Sequence[Turn]) -> int:
    found = rehearsal()

    async def play() -> None:
        for turn in schedule:
            await found.turn(turn)

    asyncio.run(play())
    return len(found.broker.writes)


@pytest.mark.parametrize("lands", [False, True])
def test_a_crash_at_every_single_write_changes_nothing(lands: bool) -> None:  # noqa: FBT001 - a parameter of the test
    n_writes = writes_of(SCRIPT)
    assert n_writes > 100
    for number in range(n_writes):
        assert after([Turn("crash", PLACES[0], number, lands), *SCRIPT]) == undisturbed(), f"write {number}"


# Controls: without a safeguard the same search finds what it was there for.


class CountsAgain(ProfilingStage):
    """Takes in whatever comes, as if it had never come before."""

    def step(self, state: PartitionState, records: Sequence[Raw]) -> tuple[PartitionState, list[Outgoing]]:
        state.next_offset = 0
        for cell in state.cells.values():
            cell.next_offset = 0
        return super().step(state, records)


class BelievesItsOwnCell(ProfilingStage):
    """Goes on where the partition's own cell says, whatever has become of the others."""

    def restore(
        self, partition: int, saved: Mapping[bytes, bytes]
    ) -> tuple[PartitionState, dict[bytes, DamagedState]]:
        state, damaged = super().restore(partition, saved)
        if OWN in saved:
            state.next_offset = unseal(saved[OWN]).next_offset
        return state, damaged


class JudgesAgain(VerdictStage):
    """Takes in partials of windows that are final."""

    def step(self, state: Any, records: Sequence[Raw]) -> Any:
        state.final_ms = 0
        return super().step(state, records)


@pytest.mark.parametrize(
    ("topic", "stage", "names"),
    [
        ("predictions", CountsAgain, ("poll", "repeat")),
        ("predictions", CountsAgain, (*USUAL, *RARE)),
        ("predictions", BelievesItsOwnCell, ("poll", "save", "freeze", "thaw", "crash")),
        ("partials", JudgesAgain, (*USUAL, *RARE)),
    ],
)
def test_without_a_safeguard_the_search_finds_a_violation(topic: str, stage: Any, names: tuple[str, ...]) -> None:
    def is_violated(schedule: list[Turn]) -> bool:
        return after(schedule, **{topic: stage}) != undisturbed()

    search = settings(max_examples=1000, deadline=None, phases=[Phase.generate], database=None)
    try:
        find(turns(*names), is_violated, settings=search, random=Random(1))
    except NoSuchExample:
        pytest.fail(f"{stage.__name__} went unnoticed")
