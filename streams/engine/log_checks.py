"""When a stage's partitions are held against their logs."""

from collections.abc import Awaitable, Callable
from typing import Any

from driftline.detectors.documents.bookmark import Bookmark
from driftline.streams.engine.held import Held

KNOWN_S = 30.0
"""Of restored partitions one is checked in so many seconds; others at once only if their log ends below their state."""


class Checks:
    """When a stage's partitions are held against their logs. A topic is made again as a whole, so one shows it for all.

    Parameters
    ----------
    check
        Holds a partition's bookmark against its log.
    clock
        Monotonic seconds.
    interval_s
        Seconds between two snapshots of a partition.
    """

    def __init__(
        self, check: Callable[[int, Bookmark], Awaitable[None]], clock: Callable[[], float], interval_s: float
    ) -> None:
        self._check, self._clock, self._interval_s, self._known_at = check, clock, interval_s, -KNOWN_S

    async def before_reading(self, partition: int, held: Held[Any], offset: int, *, has_ended: bool = False) -> None:
        """Refuse to go on from an offset in another log than the state was read from.

        Needed after a restore, and when what comes begins, or the log ends, below the state. After a rebalance most
        partitions begin there, so of those that were restored another one's check counts for a while.
        """
        is_restored = held.checked_through < 0
        if not is_restored and not offset < held.state.next_offset > held.checked_through:
            return
        if is_restored and not has_ended and self._clock() - self._known_at < KNOWN_S:
            return
        if (bookmark := held.state.bookmark) is not None:
            await self._ask(partition, bookmark)
        held.checked_through = held.state.next_offset

    async def before_saving(self, partition: int, held: Held[Any]) -> None:
        """Refuse to save what was read behind a topic's being made again, once in a round of snapshots.

        A new log that soon grew beyond the state is read on without a sign, and its records are the newest bookmark.
        """
        is_due = self._clock() - self._known_at >= self._interval_s
        if is_due and held.saved_bookmark is not None and held.saved_bookmark != held.state.bookmark:
            await self._ask(partition, held.saved_bookmark)

    async def _ask(self, partition: int, bookmark: Bookmark) -> None:
        await self._check(partition, bookmark)
        self._known_at = self._clock()
