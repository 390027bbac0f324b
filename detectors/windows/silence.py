"""Silence of a partition, measured by the append times that lie in its own log.

Under LogAppendTime a record's Kafka timestamp is the broker's clock. That no record was appended for ``idle_after_ms``
is then a fact of the log, which a replay finds again. Timestamps that producers set (CreateTime) tell nothing of the kind.
"""

import msgspec
import numpy as np

from driftline.detectors.arrays import I64, Mask
from driftline.detectors.documents.partials import Closed
from driftline.detectors.plan import Plan
from driftline.detectors.tumbling import NO_TIME

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
    since_ms
        Append time of the first record after the last silence; ``NO_TIME`` if there was none.
    stood
        How often append time has passed from one window to another since the partition last closed one.
    """

    appended_ms: int = NO_TIME
    by_broker: bool = True
    upto: int = 0
    silences: int = 0
    since_ms: int = NO_TIME
    stood: int = 0

    @property
    def through_ms(self) -> int:
        """Append time up to which the log is known, 0 before the first record; ``NO_TIME`` after a producer's."""
        return max(0, self.appended_ms) if self.by_broker else NO_TIME

    def stands(self, plan: Plan) -> bool:
        """Whether records came for ``max_provisional_windows`` windows of append time, and no window was closed."""
        return self.by_broker and self.stood >= plan.max_provisional_windows

    def idle_from(self, plan: Plan) -> int | None:
        """Append time from which the partition counts as idle if no record follows; None where its log can't tell.

        The open windows are sent at every silence. So that their number is bounded even if event time stands still,
        the required silence grows once there were many while no window closed. But a partition whose records go on to
        bear an old time must not hold back the others for ever: once it stands, it counts as idle between the last
        record of each window of append time and the record that follows, however soon that is.

        Examples
        --------
        >>> plan = Plan(window_ms=60_000, idle_after_ms=30_000, max_provisional_windows=60)
        >>> Clock(1_000, upto=7).idle_from(plan), Clock(1_000, upto=7, silences=8).idle_from(plan)
        (31000, 61000)
        >>> Clock(1_000, by_broker=False, upto=7).idle_from(plan) is None
        True
        >>> Clock(1_000, upto=7, silences=8, stood=60).idle_from(plan)
        59999

        A partition that never held a record has been silent all the time.

        >>> Clock().idle_from(plan)
        29999
        """
        if not self.by_broker:
            return None
        doublings = min(max(0, self.silences + 1 - USUAL_SILENCES), MOST_DOUBLINGS)
        silent_ms = self.appended_ms + (plan.idle_after_ms << doublings)
        return min(silent_ms, _last_of_window(self.appended_ms, plan)) if self.stands(plan) else silent_ms

    def passed(self, clock_ms: I64, window_ms: int) -> int:
        """``stood`` after records, given the highest append time after each.

        Examples
        --------
        >>> Clock(1_000, stood=5).passed(np.array([900, 1_000, 60_000, 200_000]), 60_000)
        7
        """
        windows = np.maximum(clock_ms, self.appended_ms) // window_ms
        return self.stood + int((np.diff(windows, prepend=self.appended_ms // window_ms) > 0).sum())


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
    """Records before which the partition may have been silent: those appended more than ``idle_after_ms`` after all others.

    Examples
    --------
    >>> silences(np.array([-1, 10, 20, 60]), np.array([True, True, True]), 30).tolist()
    [2]
    """
    return ((np.diff(clock_ms) > idle_after_ms) & by_broker).nonzero()[0]


def ends_of_stands(clock_ms: I64, by_broker: Mask, clock: Clock, plan: Plan) -> I64:
    """Records with which append time passes to another window where the partition may stand: where it does at the most.

    Examples
    --------
    >>> clock_ms, plan = np.array([1, 2, 61_000, 62_000, 121_000]), Plan(max_provisional_windows=3)
    >>> ends_of_stands(clock_ms, np.ones(4, np.bool_), Clock(1, stood=2), plan).tolist()
    [3]
    """
    passing = ((np.diff(clock_ms // plan.window_ms) > 0) & by_broker).nonzero()[0]
    return passing[max(0, plan.max_provisional_windows - clock.stood) :]


def _last_of_window(appended_ms: int, plan: Plan) -> int:
    return appended_ms - appended_ms % plan.window_ms + plan.window_ms - 1


def closings(closed_ms: int, closed_after: I64, clock_ms: I64, witness_ms: int) -> list[Closed]:
    """Ends of closed windows with the append time at which each was reached, the last one for every append time.

    Parameters
    ----------
    closed_ms
        End of the last window that was closed before.
    closed_after
        The same after each of n records, shape (n,), never falling.
    clock_ms
        Highest append time after each record, shape (n,).
    witness_ms
        From which append time on these closings show that others are idle.

    Examples
    --------
    >>> closings(60, np.array([60, 120, 180, 180, 240]), np.array([1, 7, 7, 8, 9]), 8)
    [(180, 7, 8), (240, 9, 8)]
    """
    rows = (np.diff(np.maximum(closed_after, closed_ms), prepend=closed_ms) > 0).nonzero()[0]
    newest = dict(zip(clock_ms[rows].tolist(), closed_after[rows].tolist(), strict=True))
    return [(closed, appended, witness_ms) for appended, closed in newest.items()]
