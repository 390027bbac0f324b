"""Alerts of model versions of which nothing more comes: silent ones, and ones whose baseline was withdrawn."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.detectors.snapshots.envelope import OWN, cell_key
from driftline.detectors.snapshots.verdict_snapshot import dump, load
from driftline.detectors.verdicts import verdict
from driftline.streams.formats import wire
from tests.logs import MINUTE_MS, START_MS, plain, watching
from tests.test_verdict import PLAN, WATCH, Fleet, mark, partial

SILENCE = PLAN.policy.resolve_without_data
KEY = ("m", "1")


def drifting(minute: int) -> list[verdict.Item]:
    return [partial(minute, 0, shift=2.0), partial(minute, 1, shift=2.0)]


def marks(minutes: int) -> list[verdict.Item]:
    return [mark(minutes, 0), mark(minutes, 1)]


def opened() -> Fleet:
    fleet = Fleet()
    fleet.take(*drifting(0), *drifting(1), *marks(2))
    assert fleet.open_alerts() == {"x": "critical"}
    return fleet


def test_a_silent_model_version_s_alerts_are_resolved_when_the_fleet_has_gone_on_for_so_long() -> None:
    fleet = opened()
    assert fleet.take(*marks(1 + SILENCE)).alerts == []
    [found] = fleet.take(*marks(2 + SILENCE)).alerts
    assert (found.signal, found.state, found.final) == ("x", "resolved", True)
    assert found.time_ms == START_MS + (2 + SILENCE) * MINUTE_MS
    assert f"no more data for {SILENCE} windows" in found.summary
    assert fleet.open_alerts() == {}
    fleet.restart()
    assert fleet.take(*marks(500)).alerts == []


def test_windows_with_too_few_records_to_say_anything_are_data() -> None:
    fleet = opened()
    for minute in range(2, 2 + 2 * SILENCE, SILENCE - 1):
        fleet.take(partial(minute, 0, n=3), *marks(minute + 1))
    assert fleet.open_alerts() == {"x": "critical"}


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 2 * SILENCE + 2),
    st.lists(st.integers(3, 3 * SILENCE), max_size=6),
    st.sampled_from(["restarts", "goes on"]),
)
def test_it_does_not_matter_how_far_the_marks_jump(gap: int, stops: list[int], then: str) -> None:
    """A batch may close a day of windows at once, or one after the other."""
    at_once, in_steps = opened(), opened()
    back = drifting(1 + gap)
    end = 5 * SILENCE
    at_once.take(*back, *marks(end))
    for stop in sorted({*stops, end}):
        if back and stop >= 1 + gap:
            in_steps.take(*back)
            back = []
        in_steps.take(*marks(stop))
        if then == "restarts":
            in_steps.restart()
    told = [[wire.document(each) for each in fleet.out.alerts] for fleet in (at_once, in_steps)]
    assert told[0] == told[1]
    n_resolved = sum(each.state == "resolved" for each in at_once.out.alerts)
    assert n_resolved == (2 if gap > SILENCE else 1)


def test_with_the_tombstone_a_model_version_is_dropped_at_once_and_alone() -> None:
    fleet = Fleet(watching(PLAN, plain(), msgspec.structs.replace(plain(), version="2").sealed()))
    second = fleet.watch.layouts["m", "2"][0].baseline.hash
    other = msgspec.structs.replace(partial(0, 0, shift=2.0), version="2", baseline=second)
    fleet.take(*drifting(0), *drifting(1), other, *marks(2), partial(2, 0))
    values = dict(dump(fleet.state, fleet.watch))
    fleet.watch = fleet.watch.without(KEY)
    assert verdict.is_due(fleet.state, fleet.watch)
    fleet.state, out = verdict.step(fleet.state, [], fleet.watch)
    assert [(each.version, each.signal, each.state) for each in out.alerts] == [("1", "x", "resolved")]
    assert "its baseline was retired" in out.alerts[0].summary
    assert (out.unmatched, out.retired) == (1, [KEY])
    assert fleet.state.models.keys() == {("m", "2")}
    later = list(dump(fleet.state, fleet.watch))
    assert later[-2:] == [(OWN, later[-2][1]), (cell_key(*KEY), b"")]
    state, damaged = load(0, {**values, **dict(later[:-1])})  # died before the last write
    assert damaged == {}
    state, out = verdict.step(state, [], fleet.watch)
    assert state.models.keys() == {("m", "2")}
    assert state.next_offset == fleet.state.next_offset


def test_what_still_comes_of_a_retired_model_version_is_counted_until_it_has_a_baseline_again() -> None:
    fleet = opened()
    fleet.watch = WATCH.without(KEY)
    assert fleet.take(partial(2, 0), *marks(3)).unmatched == 1
    fleet.watch = fleet.watch.with_baseline(plain())
    found = fleet.take(partial(3, 0), *marks(4))
    assert (found.unmatched, len(found.verdicts)) == (0, 1)


@pytest.mark.parametrize("windows", [1, 3])
def test_the_plan_says_how_long_a_silence_is(windows: int) -> None:
    policy = msgspec.structs.replace(PLAN.policy, resolve_without_data=windows)
    fleet = Fleet(watching(msgspec.structs.replace(PLAN, policy=policy), plain()))
    fleet.take(*drifting(0), *marks(windows))
    assert fleet.open_alerts() == {"x": "warning"}
    fleet.take(*marks(1 + windows))
    assert fleet.open_alerts() == {}
