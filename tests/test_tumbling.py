from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.arrays import I64, Mask
from driftline.detectors.tumbling import (
    NO_TIME,
    closed_through,
    flushed_through,
    is_late,
    reached,
    window_start,
)

TIMES = st.lists(st.integers(0, 10**13), max_size=50)
LENGTHS = st.integers(1, 10**8)


@given(times=TIMES, window_ms=LENGTHS)
def test_every_moment_lies_in_one_window_that_is_aligned_to_the_epoch(times: list[int], window_ms: int) -> None:
    starts = window_start(np.array(times, np.int64), window_ms).tolist()
    assert all(start % window_ms == 0 for start in starts)
    assert all(start <= time < start + window_ms for start, time in zip(starts, times, strict=True))


CLOCKS = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100), st.booleans()), max_size=120)
"""Event time, timestamp and whose it is, so close together that every rule decides now and then."""
NONE = np.empty(0, np.int64)


def walked(clocks: list[tuple[int, int, bool]], highest: int) -> list[int]:
    """How far event time has come, one record after the other."""
    told: list[int] = []
    found = [highest]
    for event, appended, by_broker in clocks:
        if by_broker:
            claims = [min(event, appended)]
        else:
            told.append(event)
            claims = sorted(told[-32:], reverse=True)[15:16]
        found.append(max(found[-1], *claims, NO_TIME))
    return found


def split(clocks: list[tuple[int, int, bool]]) -> tuple[I64, I64, Mask]:
    event, appended, by_broker = zip(*clocks, strict=True) if clocks else ((), (), ())
    return np.array(event, np.int64), np.array(appended, np.int64), np.array(by_broker, np.bool_)


@given(clocks=CLOCKS, cuts=st.lists(st.integers(0, 120), max_size=4), before=st.integers(NO_TIME, 100))
def test_how_far_event_time_has_come_is_decided_per_record_however_the_log_is_cut(
    clocks: list[tuple[int, int, bool]], cuts: list[int], before: int
) -> None:
    found, recent = [before], NONE
    ends = [0, *sorted(cuts), len(clocks)]
    for start, stop in pairwise(ends):
        times, recent = reached(*split(clocks[start:stop]), found[-1], recent)
        assert times[0] == found[-1]
        found += times[1:].tolist()
    assert found == walked(clocks, before)


@given(event=st.lists(st.integers(0, 50), min_size=1, max_size=120), ordered=st.booleans())
def test_a_log_in_order_is_no_special_case(event: list[int], ordered: bool) -> None:  # noqa: FBT001 - drawn
    clocks = [(each, each, False) for each in (sorted(event) if ordered else event)]
    times, recent = reached(*split(clocks), NO_TIME, NONE)
    assert times.tolist() == walked(clocks, NO_TIME)
    assert recent[-min(32, len(clocks)) :].tolist() == [each for each, _, _ in clocks[-32:]]


@given(clocks=CLOCKS)
def test_the_brokers_time_is_a_bound_whatever_the_producers_claim(clocks: list[tuple[int, int, bool]]) -> None:
    by_broker = [(event, appended, True) for event, appended, _ in clocks]
    times, _ = reached(*split(by_broker), NO_TIME, NONE)
    assert times[-1] <= max((appended for _, appended, _ in clocks), default=NO_TIME)


@pytest.mark.parametrize("wild", [1, 4, 7, 15])
@pytest.mark.parametrize("claimed", [4_102_444_800_000, 480_000 + 31])
def test_a_few_records_of_any_time_move_nothing_where_no_broker_vouches_for_time(wild: int, claimed: int) -> None:
    sound = [(moment, moment, False) for moment in range(100)]
    clocks = [*sound[:40], *[(claimed, claimed, False)] * wild, *sound[40:]]
    times, _ = reached(*split(clocks), NO_TIME, NONE)
    assert times.max() <= 99
    assert times[-1] >= 99 - 15


def test_one_producer_in_ten_that_is_fast_moves_nothing_where_no_broker_vouches_for_time() -> None:
    fast = np.random.default_rng(5).random(100_000) < 0.1
    moments = np.arange(100_000) * 10
    claimed = np.where(fast, moments + 59_000, moments)
    times, _ = reached(claimed, claimed, np.zeros(100_000, np.bool_), NO_TIME, NONE)
    assert (times[1:] <= moments).all()
    assert (times[33:] >= moments[32:] - 400).all()


@given(event_ms=st.integers(0, 10**6), highest_ms=st.integers(0, 10**6), window_ms=st.integers(1, 1000))
def test_a_record_is_late_when_its_window_is_closed(event_ms: int, highest_ms: int, window_ms: int) -> None:
    closed_ms = closed_through(highest_ms, window_ms, 50)
    [late] = is_late(window_start(np.array([event_ms]), window_ms), np.array([highest_ms]), window_ms, 50).tolist()
    assert late == (event_ms < closed_ms)


def test_nothing_is_late_before_the_first_record() -> None:
    assert not is_late(np.array([0]), np.array([NO_TIME]), 60_000, 0).any()
    assert closed_through(NO_TIME, 60_000, 10_000) == 0


@given(
    event_ms=st.integers(0, 10**6),
    appended_ms=st.integers(0, 10**6),
    window_ms=st.integers(1, 1000),
    lateness_ms=st.integers(0, 500),
)
def test_a_flush_mark_closes_the_window_of_its_time_and_none_that_begins_after_it_was_written(
    event_ms: int, appended_ms: int, window_ms: int, lateness_ms: int
) -> None:
    through_ms = flushed_through(event_ms, appended_ms, window_ms, lateness_ms)
    closed_ms = closed_through(through_ms, window_ms, lateness_ms)
    last_ms = min(event_ms, appended_ms)
    assert closed_ms - window_ms <= last_ms < closed_ms
    assert through_ms <= appended_ms + window_ms + lateness_ms
