from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.baselines.fit import fit
from driftline.detectors.documents.partials import Mark, Partial
from driftline.detectors.documents.predictions import Batch, Flush
from driftline.detectors.layout.vector_layout import LATE, Layout, N
from driftline.detectors.plan import Plan, plan_from
from driftline.detectors.snapshots import profile_snapshot
from driftline.detectors.windows import profiling
from driftline.detectors.windows.profiling import PartitionState, provisional
from tests.logs import MINUTE_MS, START_MS, Profile, batch_of, fraud, plain, prediction, sample, watching

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from driftline.detectors.arrays import I64
    from driftline.detectors.layout.watch import Watch
    from driftline.detectors.windows.model_state import OpenWindow

KEY = ("m", "1")
WATCH = watching(Plan(), plain())
SECOND_MS = 1000


def fed(moments_s: Sequence[float], watch: Watch = WATCH, found: Profile | None = None) -> Profile:
    """Stage 1 over one record at each of these seconds after the start, in one batch."""
    found = found or Profile(PartitionState(0, 1))
    moments = [START_MS + int(second * SECOND_MS) for second in moments_s]
    found.step(batch_of(sample(len(moments), 1), moments, found.state.next_offset), watch)
    return found


def windows(found: Profile) -> dict[int, tuple[int, int]]:
    """Records in time and late ones of each window, by its minute, sent or still open."""
    sent = {item.start_ms: item.counts() for item in found.items if isinstance(item, Partial)}
    cell = found.state.cells.get(KEY)
    still_open = {start: window.vector for start, window in cell.windows.items()} if cell else {}
    return {
        (start - START_MS) // MINUTE_MS: (int(vector[N]), int(vector[LATE]))
        for start, vector in sorted({**sent, **still_open}.items())
    }


def marks(found: Profile) -> list[int]:
    return [(item.closed_ms - START_MS) // SECOND_MS for item in found.items if isinstance(item, Mark)]


def the_window(found: Profile, start_ms: int = START_MS) -> OpenWindow:
    return found.state.cells[KEY].windows[start_ms]


# Time


def test_a_record_out_of_order_is_counted_in_its_own_window_while_that_is_open() -> None:
    assert windows(fed([0, 69.9, 59.9, 61])) == {0: (2, 0), 1: (2, 0)}


def test_a_record_whose_window_is_closed_is_counted_as_late_in_the_window_that_is_newest_then() -> None:
    assert windows(fed([0, 70, 59.9, 200, 61])) == {0: (1, 0), 1: (1, 1), 3: (1, 1)}


def test_a_window_closes_when_the_watermark_reaches_its_end() -> None:
    found = fed([0, 69.999])
    assert [type(item) for item in found.items] == [Mark]
    fed([70], found=found)
    assert [type(item) for item in found.items] == [Mark, Partial, Mark]
    assert marks(found) == [0, 60]
    assert found.state.cells[KEY].windows.keys() == {START_MS + MINUTE_MS}


@given(
    st.lists(st.lists(st.integers(0, 10**6), min_size=1, max_size=8), max_size=6),
    st.integers(1, 500),
    st.integers(0, 2_000),
)
def test_between_batches_no_more_windows_are_open_than_the_lateness_spans(
    batches: list[list[int]], window_s: int, lateness_s: int
) -> None:
    watch = watching(Plan(window_ms=window_s * SECOND_MS, lateness_ms=lateness_s * SECOND_MS), plain())
    found = Profile(PartitionState(0, 1))
    for moments_s in batches:
        fed(moments_s, watch, found)
        assert len(found.state.cells[KEY].windows) <= watch.plan.open_windows


def test_a_partial_says_after_which_record_its_window_was_closed() -> None:
    found = fed([0, 1, 70, 75, 200, 201])
    assert [item.upto for item in found.items if isinstance(item, Partial)] == [3, 5]
    assert marks(found) == [180]


def test_a_record_ahead_of_its_own_kafka_timestamp_is_refused_and_moves_no_watermark() -> None:
    found = fed([0])
    batch = batch_of(sample(2, 1), [START_MS + 61_000 + 1, START_MS + 61_000], 1)
    found.step(
        Batch(
            "predictions",
            0,
            batch.offsets,
            batch.event_ms,
            batch.event_ms * 0 + START_MS + 1000,
            batch.log_append,
            batch.predictions,
            3,
        ),
        WATCH,
    )
    assert found.rejected == [(1, "ahead")]
    assert found.state.highest_ms == START_MS + 1000  # the other's clock is fast as well: it counts up to the broker's


def test_a_window_without_records_is_not_sent_but_its_end_is_marked() -> None:
    found = fed([0, 600])
    assert windows(found) == {0: (1, 0), 10: (1, 0)}
    assert marks(found) == [540]


def test_what_is_closed_stays_closed_when_the_plan_allows_for_more_lateness() -> None:
    found = fed([0, 80])
    patient = watching(plan_from({"lateness_ms": 50_000}), plain())
    fed([59, 81], patient, found)
    assert windows(found) == {0: (1, 0), 1: (2, 1)}


def test_a_plan_that_allows_for_less_lateness_closes_windows_at_the_next_usable_record() -> None:
    found = fed([0, 65])
    hasty = watching(plan_from({"lateness_ms": 0}), plain())
    found.step(batch_of([prediction({}, model="ghost")], START_MS + 66_000, 2), hasty)
    assert marks(found) == [0]
    fed([66], hasty, found)
    assert marks(found) == [0, 60]


# Models


def test_records_of_unknown_models_leave_no_trace() -> None:
    found = Profile(PartitionState(0, 1))
    ghosts = [prediction({}, model=f"ghost-{row}") for row in range(50)]
    found.step(batch_of([*ghosts, prediction({}, model="a|b")], START_MS + 10**9), WATCH)
    assert [reason for _, reason in found.rejected] == ["unknown_model"] * 50 + ["bad_name"]
    assert found.state.cells == {}
    assert found.state.highest_ms == -1
    assert found.state.next_offset == 51


def test_models_of_one_batch_are_counted_apart_and_share_the_watermark() -> None:
    watch, found = watching(Plan(), plain(), fraud()), Profile(PartitionState(0, 1))
    theirs = [prediction({"merchant": "a", "night": False}, False, "fraud") for _ in range(2)]  # noqa: FBT003
    mine = sample(2, 1)
    rows = [theirs[0], mine[0], mine[1], theirs[1]]
    found.step(batch_of(rows, [START_MS, START_MS + 1, START_MS + 70_000, START_MS + 2]), watch)
    sent = {item.model: item.counts() for item in found.items if isinstance(item, Partial)}
    assert {model: int(vector[N]) for model, vector in sent.items()} == {"fraud": 1, "m": 1}
    late = found.state.cells["fraud", "1"].windows[START_MS + MINUTE_MS]
    assert late.vector[LATE] == 1


def test_a_record_from_before_the_first_baseline_is_refused() -> None:
    watch = watching(Plan(), plain(0, START_MS + MINUTE_MS))
    found = fed([0, 59, 60, 61], watch)
    assert found.rejected == [(0, "no_baseline_yet"), (1, "no_baseline_yet")]
    assert windows(found) == {1: (2, 0)}


# Baselines that change


def test_an_open_window_keeps_its_bins_when_another_baseline_comes() -> None:
    found = fed([0])
    coarse = msgspec.structs.replace(fit("m", "1", {"x": [0.0, 1.0, 2.0]}), effective_from_ms=START_MS)
    fed([1, 61], watching(Plan(), plain(), coarse), found)
    assert windows(found) == {0: (2, 0), 1: (1, 0)}
    before, after = the_window(found), the_window(found, START_MS + MINUTE_MS)
    assert (before.layout.baseline.hash, after.layout.baseline.hash) == (plain().hash, coarse.hash)
    assert {int(before.layout.cells(before.vector, name).sum()) for name in plain().signals} == {2}
    assert after.layout.cells(after.vector, "x").sum() == 1


def test_detectors_start_afresh_with_a_newer_baseline_and_never_go_back() -> None:
    watch = watching(Plan(), plain(), plain(7, START_MS + MINUTE_MS))
    found = fed([0, 1], watch)
    fed([60], watch, found)
    online = found.state.cells[KEY].online
    assert online is not None
    assert online.layout.baseline.hash == plain(7).hash
    fed([59], watch, found)  # in time, but of the baseline before: counted, not scored
    assert found.state.cells[KEY].online is online
    assert windows(found)[0] == (3, 0)
    assert [int(the_window(found, start).vector[2]) for start in (START_MS, START_MS + MINUTE_MS)] == [2, 1]


def test_a_baseline_that_is_published_twice_does_not_disturb_the_detectors() -> None:
    found = fed([0])
    online = found.state.cells[KEY].online
    fed([1], WATCH.with_baseline(msgspec.structs.replace(plain())), found)
    assert found.state.cells[KEY].online is online
    assert the_window(found).vector[2] == 2


def test_detectors_go_on_with_the_baseline_that_takes_the_place_of_theirs() -> None:
    found = fed([0])
    fed([60, 61], watching(Plan(), plain(7)), found)
    online = found.state.cells[KEY].online
    assert online is not None
    assert online.layout.baseline.hash == plain(7).hash


# Detectors


def test_a_shift_is_a_change_point_at_the_record_where_it_was_found() -> None:
    found = Profile(PartitionState(0, 1))
    found.step(batch_of([*sample(3000, 3), *sample(1000, 4, shift=1.0)], START_MS), WATCH)
    changes = the_window(found).changes
    first = changes[0]
    assert (first.signal, first.detector, first.partition, first.event_ms) == ("x", "adwin", 0, START_MS)
    assert 3000 < first.offset < 3500
    assert first.before < 0.1
    assert first.after > 0.1  # most of what it keeps is from before the change
    assert {change.signal for change in changes} == {"x"}
    assert [change.offset for change in changes] == sorted(change.offset for change in changes)


def test_a_change_of_spread_is_found_by_the_squares_and_changes_come_in_the_order_of_the_log() -> None:
    wide = [
        prediction({**each.features, "y": 2 * float(each.features["y"] or 0)}, each.prediction)
        for each in [*sample(1000, 4), *sample(1000, 5, shift=1.0)]
    ]
    found = Profile(PartitionState(0, 1))
    found.step(batch_of([*sample(2000, 3), *wide], START_MS), WATCH)
    changes = the_window(found).changes
    assert (changes[0].signal, changes[0].detector) == ("y", "adwin_scale")
    assert {(change.signal, change.detector) for change in changes} >= {("y", "adwin_scale"), ("x", "adwin")}
    assert [change.offset for change in changes] == sorted(change.offset for change in changes)


@pytest.mark.parametrize(
    ("detector", "kept"),
    [("adwin", {"adwin_scale"}), ("adwin_scale", {"adwin"}), ("half_space_trees", {"adwin", "adwin_scale"})],
)
def test_online_detectors_can_be_switched_off(detector: str, kept: set[str]) -> None:
    found = fed(range(50), watching(plan_from({"detectors": {detector: {"enabled": False}}}), plain()))
    online = found.state.cells[KEY].online
    assert online is not None
    assert {each.detector for each in online.layout.adwins} == kept
    assert len(online.windows) == len(online.layout.adwins)
    scored = int(the_window(found).vector[2])
    assert (online.masses is None, scored) == ((True, 0) if detector == "half_space_trees" else (False, 50))


def test_one_signals_detector_can_be_switched_off_alone() -> None:
    plan = plan_from({"models": {"m": {"signals": {"x": {"detectors": {"adwin": {"enabled": False}}}}}}})
    online = fed([0], watching(plan, plain())).state.cells[KEY].online
    assert online is not None
    assert len(online.windows) == len(online.layout.adwins)
    watched = {(each.detector, each.signal) for each in online.layout.adwins}
    assert ("adwin", "x") not in watched
    assert {("adwin", "y"), ("adwin", "prediction"), ("adwin_scale", "x")} <= watched


# What is sent


def test_what_was_read_is_accepted_late_refused_or_skipped() -> None:
    found = fed([0, 200, 1])
    out = found.step(batch_of([prediction({}, model="ghost"), *sample(2, 1)], START_MS + 200_000, 3), WATCH)
    assert (out.accepted, out.late, len(out.rejected), out.skipped) == (2, 0, 1, 0)
    again = found.step(batch_of(sample(3, 1), START_MS + 200_000, 4), WATCH)
    assert (again.accepted, again.skipped) == (1, 2)
    assert found.tally == {"read": 9, "accepted": 5, "late": 1, "rejected": 1, "skipped": 2, "flushes": 0}


def test_an_empty_batch_only_moves_the_offset() -> None:
    found = fed([0])
    empty = np.empty(0, np.int64)
    out = found.step(Batch("predictions", 0, empty, empty, empty, empty == 1, [], 9), WATCH)
    assert found.state.next_offset == 9
    assert (out.partials, out.mark, out.events, out.accepted) == ([], None, [], 0)


def test_an_idle_partition_tells_its_open_windows_and_keeps_them() -> None:
    found = fed([0, 61, 75, 76])
    before = {start: window.vector.tolist() for start, window in found.state.cells[KEY].windows.items()}
    out = provisional(found.state)
    assert [(each.start_ms, each.upto, each.counts().tolist()) for each in out.partials] == [
        (start, 4, vector) for start, vector in before.items()
    ]
    assert out.mark == Mark(0, 1, START_MS + MINUTE_MS, idle=True, appended_ms=START_MS + 76 * SECOND_MS)
    assert {start: window.vector.tolist() for start, window in found.state.cells[KEY].windows.items()} == before


def test_a_partition_that_never_had_a_record_can_still_say_that_it_is_idle() -> None:
    out = provisional(PartitionState(3, 4))
    assert (out.partials, out.mark) == ([], Mark(3, 4, 0, idle=True, appended_ms=0))


def test_counts_of_a_window_add_up_whatever_is_wrong_with_the_values() -> None:
    rows = [*sample(20, 1), prediction({"x": "one", "colour": 5}, None), prediction({}, {"a": 1.0})]
    found = Profile(PartitionState(0, 1))
    found.step(batch_of(rows, START_MS), WATCH)
    layout: Layout = the_window(found).layout
    assert {int(layout.cells(the_window(found).vector, name).sum()) for name in layout.signals} == {22}


# Clocks that are wrong

GOOD_MS = START_MS + 50 * np.arange(10_000)
"""Ten thousand records in eight minutes, of sound clocks."""


def published(event_ms: I64, appended_ms: I64, *, by_broker: bool, key: tuple[str, str] = KEY) -> list[Batch]:
    """Records of one model in batches; ``key`` names another that it is published under."""
    some = [msgspec.structs.replace(each, model=key[0], version=key[1]) for each in sample(500, 1)]
    starts = range(0, event_ms.size, 500)
    return [
        Batch(
            "predictions",
            0,
            np.arange(start, min(start + 500, event_ms.size)),
            event_ms[start : start + 500],
            appended_ms[start : start + 500],
            np.full(event_ms[start : start + 500].size, by_broker),
            some[: event_ms[start : start + 500].size],
            min(start + 500, event_ms.size),
        )
        for start in starts
    ]


def inserted(moments: I64, places: Sequence[int], values: Sequence[int]) -> I64:
    return np.insert(moments, list(places), list(values))


WILD = {
    "three of 2100": ([3000, 3001, 5000], [4_102_444_800_000] * 3),
    "four 8 minutes ahead": ([3000] * 4, [START_MS + 50 * 3000 + 480_000] * 4),
    "seven of 2100 in a row": ([3000] * 7, [4_102_444_800_000] * 7),
    "seven of seven years": ([3000] * 7, [4_102_444_800_000 + year * 31_557_600_000 for year in range(7)]),
    "the first five": ([0] * 5, [4_102_444_800_000] * 5),
}


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("wild", WILD)
def test_a_few_wild_records_whose_clock_sets_their_timestamp_too_make_no_other_late(
    wild: str,
    restarted: bool,  # noqa: FBT001 - a parameter
) -> None:
    places, values = WILD[wild]
    event_ms = inserted(GOOD_MS, places, values)
    found = Profile(PartitionState(0, 1))
    for batch in published(event_ms, event_ms, by_broker=False):
        if restarted:
            found.state, damaged = profile_snapshot.load(0, 1, dict(saved(found.state)), WATCH)
            assert not damaged
        found.step(batch, WATCH)
    assert found.tally["late"] == 0
    assert found.tally["accepted"] == event_ms.size  # counted, each in the window of its own time
    assert found.state.closed_ms == int(GOOD_MS[-1] - 10_000 - 15 * 50) // MINUTE_MS * MINUTE_MS


def saved(state: PartitionState) -> Iterator[tuple[bytes, bytes]]:
    for cell in state.cells.values():
        cell.is_dirty = True
    return profile_snapshot.dump(state, WATCH)


@pytest.mark.parametrize("wild", WILD)
def test_the_brokers_time_lets_wild_records_move_nothing_and_refuses_them(wild: str) -> None:
    places, values = WILD[wild]
    event_ms, appended_ms = (
        inserted(GOOD_MS, places, values),
        inserted(GOOD_MS, places, [GOOD_MS[places[0]]] * len(places)),
    )
    found = Profile(PartitionState(0, 1))
    for batch in published(event_ms, appended_ms, by_broker=True):
        found.step(batch, WATCH)
    assert (found.tally["late"], found.tally["accepted"]) == (0, GOOD_MS.size)
    assert [reason for _, reason in found.rejected] == ["ahead"] * len(places)


@pytest.mark.parametrize("by_broker", [True, False])
def test_a_fast_producer_makes_no_record_of_another_model_late(by_broker: bool) -> None:  # noqa: FBT001 - a parameter
    """Within the tolerance of clocks, one record in ten."""
    is_fast = np.arange(GOOD_MS.size) % 10 == 3
    event_ms = np.where(is_fast, GOOD_MS + 59_000, GOOD_MS)
    appended_ms = GOOD_MS if by_broker else event_ms
    watch = watching(Plan(), plain(), msgspec.structs.replace(plain(), model="other"))
    found = Profile(PartitionState(0, 1))
    for batch in published(event_ms, appended_ms, by_broker=by_broker):
        names = ["m" if fast else "other" for fast in is_fast[batch.offsets].tolist()]
        rows = [msgspec.structs.replace(each, model=name) for each, name in zip(batch.predictions, names, strict=True)]
        found.step(replace(batch, predictions=rows), watch)
    assert (found.tally["late"], found.tally["accepted"]) == (0, GOOD_MS.size)


def test_without_the_bound_a_fast_clock_makes_others_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: event time moved by every record's own time, as if each clock were right."""

    def credulous(
        event_ms: I64, _appended: I64, _by_broker: object, highest_ms: int, recent_ms: I64
    ) -> tuple[I64, I64]:
        return np.maximum.accumulate(np.concatenate([[highest_ms], event_ms])), recent_ms

    monkeypatch.setattr(profiling, "reached", credulous)
    event_ms = np.where(np.arange(GOOD_MS.size) % 10 == 3, GOOD_MS + 59_000, GOOD_MS)
    found = Profile(PartitionState(0, 1))
    for batch in published(event_ms, GOOD_MS, by_broker=True):
        found.step(batch, WATCH)
    assert found.tally["late"] > 7000


@given(
    moments_s=st.lists(st.integers(0, 10**6), min_size=1, max_size=150),
    size=st.integers(1, 40),
    most=st.integers(2, 12),
)
def test_clocks_that_show_any_time_open_no_more_windows_than_the_plan_allows(
    moments_s: list[int], size: int, most: int
) -> None:
    watch = watching(plan_from({"max_open_windows": most}), plain())
    event_ms = START_MS + np.array(moments_s) * SECOND_MS
    found = Profile(PartitionState(0, 1))
    for start in range(0, event_ms.size, size):
        part = batch_of(sample(len(moments_s), 1)[start : start + size], event_ms[start : start + size].tolist(), start)
        found.step(replace(part, log_append=part.offsets < 0), watch)
        assert len(found.state.cells[KEY].windows) <= watch.plan.open_windows + most
    assert sum(found.tally[each] for each in ("accepted", "late", "rejected")) == event_ms.size
    assert {reason for _, reason in found.rejected} <= {"ahead"}


def test_after_a_silence_of_a_day_every_record_is_counted_in_its_own_window() -> None:
    event_ms = np.concatenate([GOOD_MS[:500], GOOD_MS[:500] + 24 * 60 * MINUTE_MS])
    found = Profile(PartitionState(0, 1))
    for batch in published(event_ms, event_ms, by_broker=False):
        found.step(batch, WATCH)
    assert (found.tally["accepted"], found.tally["late"], found.rejected) == (1000, 0, [])


# Flush marks


def with_flush(batch: Batch, *flushes: Flush) -> Batch:
    return replace(batch, flushes=flushes, next_offset=max(batch.next_offset, *(each.offset + 1 for each in flushes)))


def test_a_flush_mark_closes_the_windows_of_what_lies_before_it() -> None:
    found = Profile(PartitionState(0, 1))
    batch = batch_of(sample(3, 1), [START_MS, START_MS + 61_000, START_MS + 62_000])
    mark = Flush(3, START_MS + 3_600_000, START_MS + 62_000)
    out = found.step(with_flush(batch, mark), WATCH)
    assert windows(found) == {0: (1, 0), 1: (2, 0)}
    assert found.state.cells[KEY].windows == {}
    assert marks(found) == [120]
    assert (out.accepted, out.flushes, out.skipped, found.state.next_offset) == (3, 1, 0, 4)
    again = found.step(with_flush(batch, mark), WATCH)
    assert (again.accepted, again.flushes, again.skipped, again.mark) == (0, 0, 4, None)


def test_a_flush_mark_closes_no_window_that_begins_after_it_was_written() -> None:
    found = fed([0])
    batch = batch_of([], START_MS, 1)
    found.step(with_flush(batch, Flush(1, START_MS + 30_000, START_MS + 10**9)), WATCH)
    assert marks(found) == [-60, 60]
    fed([59, 60, 61], found=found)
    assert windows(found) == {0: (1, 0), 1: (2, 1)}


def test_a_flush_mark_that_lies_back_changes_nothing() -> None:
    found = fed([0, 600])
    before = marks(found)
    found.step(with_flush(batch_of([], START_MS, 2), Flush(2, START_MS + 700_000, START_MS)), WATCH)
    assert marks(found) == before
    assert windows(found) == {0: (1, 0), 10: (1, 0)}
