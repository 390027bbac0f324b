"""Event time: windows, watermarks and lateness, all decided per record so that no cut of the log matters."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from driftline.detectors.arrays import I64, Mask

NO_TIME = -1
"""How far event time has come in a partition that has seen no record."""
RECENT, DECIDING = 32, 16
"""Of so many records with timestamps of their producers, so many decide how far event time has come."""


def window_start(event_ms: I64, window_ms: int) -> I64:
    """Start of the epoch-aligned tumbling window ``[start, start + window_ms)`` of each event.

    Examples
    --------
    >>> window_start(np.array([0, 59_999, 60_000]), 60_000).tolist()
    [0, 0, 60000]
    """
    return event_ms - event_ms % window_ms


def reached(event_ms: I64, appended_ms: I64, by_broker: Mask, highest_ms: int, recent_ms: I64) -> tuple[I64, I64]:
    """How far event time has come, before the first record and after each one, shape (n + 1,); and the recent times then.

    It is decided per record, on the log alone, so that it does not matter how the log was cut into batches. It never
    goes back, and no clock that is wrong moves it far:

    - A record whose timestamp is the broker's (LogAppendTime) moves it to its event time, but not beyond that timestamp.
    - A record whose timestamp is its producer's (CreateTime) proves nothing alone. Such records move it together: to the
      time that ``DECIDING`` of the last ``RECENT`` of them have reached, which is close to their median. So of 32 in a
      row 15 may show any time and move nothing, and the price is that a window closes 15 records later.

    Parameters
    ----------
    event_ms, appended_ms
        Event times and the records' own timestamps, shape (n,).
    by_broker
        Which of these timestamps are the broker's, shape (n,).
    highest_ms
        How far event time had come before.
    recent_ms
        Event times of the last records before whose timestamps were their producers', at most ``RECENT``.

    Examples
    --------
    The second record's clock is 90 ms fast, the third one is old.

    >>> none = np.empty(0, np.int64)
    >>> event_ms, appended_ms = np.array([5, 100, 3, 12]), np.array([6, 10, 11, 12])
    >>> reached(event_ms, appended_ms, np.ones(4, np.bool_), 4, none)[0].tolist()
    [4, 5, 10, 10, 12]

    Without a timestamp of the broker's sixteen records must have come so far, whatever one of them may claim.

    >>> claimed = np.array([2**40, *range(100, 120)])
    >>> reached(claimed, claimed, np.zeros(21, np.bool_), 4, none)[0][14:].tolist()
    [4, 4, 100, 101, 102, 103, 104, 105]
    """
    if by_broker.all():
        moved = np.minimum(event_ms, appended_ms)
    else:
        moved = np.where(by_broker, np.minimum(event_ms, appended_ms), NO_TIME)
        told = ~by_broker
        times = np.concatenate([np.full(RECENT - recent_ms.size, NO_TIME), recent_ms, event_ms[told]])
        moved[told] = _together(times)
        recent_ms = times[-RECENT:]
    seen = np.empty(event_ms.size + 1, np.int64)
    seen[0], seen[1:] = highest_ms, moved
    return np.maximum.accumulate(seen), recent_ms


def _together(times: I64) -> I64:
    """The time that ``DECIDING`` of ``RECENT`` times have reached, with each time after the first ``RECENT``."""
    if (times[1:] >= times[:-1]).all():
        return times[RECENT - DECIDING + 1 : times.size - DECIDING + 1]
    found: I64 = np.sort(sliding_window_view(times, RECENT)[1:], axis=1)[:, RECENT - DECIDING]
    return found


def is_late(start_ms: I64, highest_ms: I64, window_ms: int, lateness_ms: int) -> Mask:
    """Whether each record's window, which starts at ``start_ms``, had closed before the record came.

    A window closes when the watermark, how far event time has come less ``lateness_ms``, reaches its end.

    Examples
    --------
    The watermark stands at 70 000 - 10 000 = 60 000, so ``[0, 60000)`` is closed and ``[60000, 120000)`` is open.

    >>> is_late(np.array([0, 60_000]), np.array([70_000, 70_000]), 60_000, 10_000).tolist()
    [True, False]
    """
    return start_ms + (window_ms + lateness_ms) <= highest_ms


def closed_through(highest_ms: int, window_ms: int, lateness_ms: int) -> int:
    """End of the last window that the watermark has passed, at least 0: what a mark tells the other stage.

    Examples
    --------
    >>> closed_through(131_000, 60_000, 10_000)
    120000
    """
    watermark_ms = highest_ms - lateness_ms
    return max(0, watermark_ms - watermark_ms % window_ms)


def flushed_through(event_ms: int, appended_ms: int, window_ms: int, lateness_ms: int) -> int:
    """How far a flush mark moves event time: as far as closes the window that holds the mark's time.

    That time counts up to the mark's own timestamp, so the windows that it closes begin before it was written.

    Examples
    --------
    The window ``[60000, 120000)`` holds 61 000, and closes at 120 000 + 10 000; a mark of 61 s whose own timestamp is
    59 s closes the one before.

    >>> flushed_through(61_000, 200_000, 60_000, 10_000), flushed_through(61_000, 59_000, 60_000, 10_000)
    (130000, 70000)
    """
    last_ms = min(event_ms, appended_ms)
    return last_ms - last_ms % window_ms + window_ms + lateness_ms
