"""Which partitions hold back final verdicts: said by name, for provisional ones look alike whoever is to blame."""

import logging
from collections.abc import Callable
from time import monotonic

from driftline.detectors.plan import Plan
from driftline.detectors.verdicts.finality import holders
from driftline.detectors.verdicts.fleet import FleetState
from driftline.detectors.windows.profiling import PartitionState
from driftline.detectors.windows.silence import Clock

log = logging.getLogger(__name__)

EVERY_S = 60.0


class Holding:
    """Says which partitions of the predictions stand, and which hold back others by ``max_provisional_windows`` or more.

    Parameters
    ----------
    clock
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock, self._said_at = clock, -EVERY_S

    def say_who_stands(self, before: Clock, state: PartitionState, plan: Plan) -> None:
        """Log that a partition stands, which it did not before."""
        if state.partitions > 1 and state.clock.stands(plan) and not before.stands(plan):
            log.warning(
                "predictions partition %d: no window after %d ms of event time was closed in %d windows of append time, "
                "though records came. The others' windows become final without what it adds to them from now on, which "
                "counts as driftline_missed_records_total: find the service whose records bear old event times",
                *(state.partition, state.closed_ms, state.clock.stood),
            )

    def say_who_holds(self, state: FleetState, plan: Plan) -> None:
        """Log, once a minute, who holds back what others have closed long ago."""
        now = self._clock()
        if now - self._said_at < EVERY_S:
            return
        distance_ms = plan.max_provisional_windows * plan.window_ms
        found = holders(state.marks, state.final_ms, distance_ms)
        if found:
            self._said_at = now
            log.warning(
                "predictions partitions %s: what others have closed %g s of event time ago and before is not final for "
                "want of them. Their workers are down or lag (`driftline status`), or their records bear old event "
                "times: find the service that writes them",
                *(", ".join(map(str, found)), distance_ms / 1000),
            )
