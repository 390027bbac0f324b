"""Event time: windows, watermarks and lateness, all decided per record so that no cut of the log matters."""

import numpy as np

from driftline.detectors.arrays import I64, Mask

NO_TIME = -1
"""Highest event time of a partition that has seen no record."""


def window_start(event_ms: I64, window_ms: int) -> I64:
    """Start of the epoch-aligned tumbling window ``[start, start + window_ms)`` of each event.

    Examples
    --------
    >>> window_start(np.array([0, 59_999, 60_000]), 60_000).tolist()
    [0, 0, 60000]
    """
    return event_ms - event_ms % window_ms


def highest_before(event_ms: I64, highest_ms: int) -> I64:
    """Highest event time seen *before* each record, shape (n,).

    Lateness is judged against this, before the record itself moves the watermark, so that it does not matter how the
    log was cut into batches.

    Examples
    --------
    >>> highest_before(np.array([5, 3, 9]), 4).tolist()
    [4, 5, 5]
    """
    seen = np.empty(event_ms.size + 1, np.int64)
    seen[0] = highest_ms
    seen[1:] = event_ms
    return np.maximum.accumulate(seen)[:-1]


def is_late(start_ms: I64, highest_ms: I64, window_ms: int, lateness_ms: int) -> Mask:
    """Whether each record's window, which starts at ``start_ms``, had closed before the record came.

    A window closes when the watermark, the highest event time less ``lateness_ms``, reaches its end.

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
