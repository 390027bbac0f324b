"""Windows whose baseline this worker has not read yet wait for it, within bounds, and are judged as if it had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.detectors.verdicts import merging, verdict
from driftline.streams.formats import wire
from tests.logs import MINUTE_MS, START_MS, churn, plain, watching
from tests.test_verdict import PLAN, WATCH, Fleet, mark, partial

if TYPE_CHECKING:
    from driftline.detectors.verdicts.fleet import Judged

NOBODY = watching(PLAN)
MINUTES = 6
ITEMS = [
    each
    for minute in range(MINUTES)
    for each in (
        partial(minute, 0, shift=float(minute in (1, 2, 3))),
        partial(minute, 1, shift=float(minute in (1, 2, 3))),
        mark(minute + 1, 0),
        mark(minute + 1, 1),
    )
]


def told(out: Judged) -> list[bytes]:
    return [wire.document(each) for each in (*out.verdicts, *out.alerts)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(ITEMS)), st.integers(0, len(ITEMS)), st.sampled_from(["nobody", "another"]))
def test_it_does_not_matter_when_the_baseline_comes(came: int, restarted: int, knows: str) -> None:
    known = Fleet()
    known.take(*ITEMS)
    assert len(known.out.alerts) > 1
    fleet = Fleet(watching(PLAN, churn()) if knows == "another" else NOBODY)
    for place, item in enumerate(ITEMS):
        if place == came:
            fleet.watch = WATCH
        if place == restarted:
            fleet.restart()
        fleet.take(item)
    fleet.watch = WATCH
    assert verdict.is_due(fleet.state, WATCH) == (came == len(ITEMS))
    fleet.state, out = verdict.step(fleet.state, [], WATCH)
    assert [told(each) for each in (fleet.out, out)] in ([told(known.out), []], [[], told(known.out)])
    assert fleet.out.unmatched + out.unmatched == 0


def test_a_window_that_waits_holds_up_those_that_follow_it_and_no_other_model() -> None:
    later = plain(7, START_MS + MINUTE_MS)
    fleet = Fleet(watching(PLAN, plain()))
    unknown = msgspec.structs.replace(partial(1, 0), baseline=later.hash)
    fleet.take(partial(0, 0), mark(1, 0), mark(1, 1), unknown, mark(2, 0), mark(2, 1))
    assert len(fleet.out.verdicts) == 1
    fleet.take(partial(2, 0), mark(3, 0), mark(3, 1))
    assert len(fleet.out.verdicts) == 1
    fleet.watch = fleet.watch.with_baseline(later)
    found = fleet.take(mark(4, 0))
    assert [(each.window.start_ms - START_MS) // MINUTE_MS for each in found.verdicts] == [1, 2]
    assert [each.baseline for each in found.verdicts] == [later.hash, plain().hash]


@pytest.mark.parametrize("bound", ["HELD_PARTIALS", "HELD_BYTES"])
def test_what_waits_is_bounded_and_the_oldest_are_counted_and_dropped(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = {"HELD_PARTIALS": 4, "HELD_BYTES": 4 * len(partial(0, 0).vector)}
    monkeypatch.setattr(merging, bound, most[bound])
    fleet = Fleet(NOBODY)
    fleet.take(*ITEMS)
    assert (fleet.out.unmatched, fleet.out.verdicts) == (2 * (MINUTES - 2), [])
    fleet.watch = WATCH
    found = fleet.take(mark(MINUTES + 1, 0))
    assert [(each.window.start_ms - START_MS) // MINUTE_MS for each in found.verdicts] == [MINUTES - 2, MINUTES - 1]


def test_counts_that_do_not_fit_the_baseline_that_has_come_are_counted_as_unmatched() -> None:
    fleet = Fleet(NOBODY)
    fleet.take(partial(0, 0), msgspec.structs.replace(partial(0, 1), vector=b"\1\2\3", itemsize=1))
    fleet.take(mark(1, 0), mark(1, 1))
    fleet.watch = WATCH
    found = fleet.take(mark(2, 0))
    assert (found.unmatched, [each.n for each in found.verdicts]) == (1, [300])
