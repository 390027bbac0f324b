"""Silence of a partition, measured by the append times that lie in its own log.

Under LogAppendTime a record's Kafka timestamp is the broker's clock. That no record was appended for ``idle_after_ms``
is then a fact of the log, which a replay finds again. Timestamps that producers set (CreateTime) tell nothing of the kind.
"""

import msgspec
import numpy as np

from driftline.detectors.arrays import I64, Mask
from driftline.detectors.windows import NO_TIME

BURST_MS = 5_000
"""Appends of one producer to several partitions lie no further apart: to whom it writes so soon was not idle before."""
USUAL_SILENCES = 8
"""Silences while no window closes that count at their usual length; each later one must be twice as long as before."""
MOST_DOUBLINGS = 24


class Clock(msgspec.Struct, frozen=True, array_like=True):
    """The append times of a partition, up to where its state has come. Rejected records do not count.

    Parameters
    ----------
    appended_ms
        Highest append time; it never runs back, even if the broker's clock does. ``NO_TIME`` if there was none.
    by_broker
        Whether the last record's timestamp was the broker's.
    upto
        Offset after the last record.
    silences
        How often the partition was silent since it last closed a window.
    """

    appended_ms: int = NO_TIME
    by_broker: bool = True
    upto: int = 0
    silences: int = 0

    @property
    def through_ms(self) -> int:
        """Append time up to which the log is known, 0 before the first record; ``NO_TIME`` after a producer's."""
        return max(0, self.appended_ms) if self.by_broker else NO_TIME

    def idle_from(self, idle_after_ms: int) -> int | None:
        """Append time from which the partition counts as idle if no record follows; None where its log can't tell.

        A record that follows ends this ``BURST_MS`` before its own append time.

        The open windows are sent at every silence. So that their number is bounded even if event time stands still,
        the required silence grows once there were many while no window closed.

        Examples
        --------
        >>> Clock(1_000, upto=7).idle_from(30_000), Clock(1_000, upto=7, silences=8).idle_from(30_000)
        (31000, 61000)
        >>> Clock(1_000, by_broker=False, upto=7).idle_from(30_000) is None
        True

        A partition that never held a record has been silent all the time.

        >>> Clock().idle_from(30_000)
        29999
        """
        if not self.by_broker:
            return None
        return self.appended_ms + (idle_after_ms << min(max(0, self.silences + 1 - USUAL_SILENCES), MOST_DOUBLINGS))


def append_clock(appended_ms: I64, by_broker: Mask, highest_ms: int) -> I64:
    """Highest append time before the first record and after each, shape (n + 1,); producers' timestamps move nothing.

    Examples
    --------
    >>> append_clock(np.array([5, 99, 3, 8]), np.array([True, False, True, True]), 4).tolist()
    [4, 5, 5, 5, 8]
    """
    seen = np.empty(appended_ms.size + 1, np.int64)
    seen[0] = highest_ms
    seen[1:] = appended_ms if by_broker.all() else np.where(by_broker, appended_ms, NO_TIME)
    return np.maximum.accumulate(seen)


def silences(clock_ms: I64, by_broker: Mask, idle_after_ms: int) -> I64:
    """Records before which the partition may have been idle: those appended long enough after all others.

    Examples
    --------
    >>> silences(np.array([-1, 10, 20, 5_060]), np.array([True, True, True]), 30).tolist()
    [2]
    """
    return ((np.diff(clock_ms) > idle_after_ms + BURST_MS) & by_broker).nonzero()[0]


def closings(closed_ms: int, closed_after: I64, clock_ms: I64) -> list[tuple[int, int]]:
    """Ends of closed windows with the append time at which each was reached, the last one for every append time.

    Parameters
    ----------
    closed_ms
        End of the last window that was closed before.
    closed_after
        The same after each of n records, shape (n,), never falling.
    clock_ms
        Highest append time after each record, shape (n,).

    Examples
    --------
    >>> closings(60, np.array([60, 120, 180, 180, 240]), np.array([1, 7, 7, 8, 9]))
    [(180, 7), (240, 9)]
    """
    rows = (np.diff(np.maximum(closed_after, closed_ms), prepend=closed_ms) > 0).nonzero()[0]
    newest = dict(zip(clock_ms[rows].tolist(), closed_after[rows].tolist(), strict=True))
    return [(closed, appended) for appended, closed in newest.items()]
