"""Releases baselines that others have taken the place of, once nothing counts by them any more."""

from collections.abc import Callable, Iterable, Iterator

from driftline.detectors.verdicts.fleet import FleetState
from driftline.detectors.windows.profiling import PartitionState
from driftline.streams.engine.shared import Shared

EVERY_S = 10.0
MARGIN_WINDOWS = 60
"""A partition that comes from another worker may lie so far behind those that are here."""


class Superseded:
    """Watches which baselines are in use.

    Another worker's open windows may count by a baseline that nothing here uses, and their partials come here; so each
    is kept for as long as windows stay open, twice over.

    Parameters
    ----------
    shared
        Whose watch is made smaller.
    clock
        Monotonic seconds.
    """

    def __init__(self, shared: Shared, clock: Callable[[], float]) -> None:
        plan = shared.watch.plan
        self._shared, self._clock = shared, clock
        self._patience_s = 2 * (plan.window_ms + plan.lateness_ms) / 1000
        self._margin_ms = MARGIN_WINDOWS * plan.window_ms
        self._used_at: dict[str, float] = {}
        self._due_s = 0.0

    def release(self, states: Iterable[PartitionState | FleetState]) -> None:
        """Make the watch smaller now and then, given all states of this worker."""
        watch, now = self._shared.watch, self._clock()
        if now < self._due_s:
            return
        self._due_s, held = now + EVERY_S, list(states)
        known = [each for of in (watch.layouts, watch.replaced) for several in of.values() for each in several]
        if not held or len(known) == len(watch.layouts):
            self._used_at.clear()
            return
        used = {baseline for state in held for baseline in _used(state)}
        self._used_at = {
            each.baseline.hash: now if each.baseline.hash in used else self._used_at.get(each.baseline.hash, now)
            for each in known
        }
        in_use = {baseline for baseline, at in self._used_at.items() if now - at < self._patience_s}
        closed_ms = min(each.closed_ms if isinstance(each, PartitionState) else each.final_ms for each in held)
        self._shared.watch = watch.without_superseded(closed_ms - self._margin_ms, in_use)


def _used(state: PartitionState | FleetState) -> Iterator[str]:
    """Hashes of the baselines that a state counts by, or has partials of."""
    if isinstance(state, PartitionState):
        for cell in state.cells.values():
            yield from (window.layout.baseline.hash for window in cell.windows.values())
            if cell.online is not None:
                yield cell.online.layout.baseline.hash
        return
    for model in state.models.values():
        yield from (partial.baseline for parts in model.windows.values() for partial in parts.values())
