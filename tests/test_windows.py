import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.windows import NO_TIME, closed_through, highest_before, is_late, window_start

TIMES = st.lists(st.integers(0, 10**13), max_size=50)
LENGTHS = st.integers(1, 10**8)


@given(times=TIMES, window_ms=LENGTHS)
def test_every_moment_lies_in_one_window_that_is_aligned_to_the_epoch(times: list[int], window_ms: int) -> None:
    starts = window_start(np.array(times, np.int64), window_ms).tolist()
    assert all(start % window_ms == 0 for start in starts)
    assert all(start <= time < start + window_ms for start, time in zip(starts, times, strict=True))


@given(times=TIMES, place=st.integers(0, 50), before=st.integers(NO_TIME, 10**13))
def test_the_highest_time_before_each_record_is_the_same_however_the_log_is_cut(
    times: list[int], place: int, before: int
) -> None:
    log = np.array(times, np.int64)
    head, tail = log[:place], log[place:]
    parts = [*highest_before(head, before), *highest_before(tail, max([before, *head.tolist()]))]
    assert parts == highest_before(log, before).tolist()
    assert parts == [max([before, *times[:row]]) for row in range(len(times))]


@given(event_ms=st.integers(0, 10**6), highest_ms=st.integers(0, 10**6), window_ms=st.integers(1, 1000))
def test_a_record_is_late_when_its_window_is_closed(event_ms: int, highest_ms: int, window_ms: int) -> None:
    closed_ms = closed_through(highest_ms, window_ms, 50)
    [late] = is_late(window_start(np.array([event_ms]), window_ms), np.array([highest_ms]), window_ms, 50).tolist()
    assert late == (event_ms < closed_ms)


def test_nothing_is_late_before_the_first_record() -> None:
    assert not is_late(np.array([0]), np.array([NO_TIME]), 60_000, 0).any()
    assert closed_through(NO_TIME, 60_000, 10_000) == 0
