"""What a pump holds of one partition."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Generic

from driftline.detectors.documents.bookmark import Bookmark
from driftline.detectors.tumbling import NO_TIME
from driftline.streams.engine.chunks import Chunks
from driftline.streams.engine.ports import SETTLING_S, S
from driftline.streams.engine.scheduling import REST_S, Turns


@dataclass(slots=True)
class Held(Generic[S]):
    """One partition's state and what surrounds it."""

    state: S
    due_at: float
    """When its next snapshot is."""
    seen_at: float
    has_begun: bool
    saved_offset: int
    damaged: list[bytes]
    chunks: Chunks
    saved_bookmark: Bookmark | None = None
    """The last record that the saved state holds."""
    checked_through: int = -1
    """Offset of the state when its log was last seen to be the one that it was read from."""
    unacknowledged: list[Awaitable[object]] = field(default_factory=list)
    holes: list[int] = field(default_factory=list)
    told_idle: bool = False
    seen: tuple[int, float] | None = None
    """An append time of other partitions, and when it was known, while this one is idle."""
    used_at: float = 0.0
    """When it last brought a record that counts. Those that are rejected do not end a silence."""
    claim: tuple[int, int] | None = None
    """Append time up to which it held no further record of use, if there is none below the offset beside it."""
    idle_through_ms: int = NO_TIME
    is_refused: bool = False
    turn: int = 0
    """How many batches had been taken when one of this partition last was."""
    waited: int = 0
    """Batches of others since then that what was fetched of it has waited for."""
    waits_since: float = 0.0
    """When it was last nudged, or had no lag."""
    waits_turn: int = 0
    """And how many batches had been taken then."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def has_had_its_turn(self, turns: Turns, now: float) -> bool:
        """Whether nothing of a silent partition can be in the queue any more."""
        is_silent = now - max(self.seen_at, self.waits_since) >= REST_S
        return is_silent and not turns.is_in_queue(max(self.turn, self.waits_turn))

    def is_used(self, now: float) -> None:
        """Be told that a record came that counts: the silence, if there was one, is over."""
        self.used_at, self.told_idle, self.seen, self.claim = now, False, None, None

    def idle_claim(self, appended_ms: int, now: float, longest_s: float) -> int | None:
        """Append time up to which a silent partition held no further record, if none lies before the end that its log has.

        Which append times there are is learnt from other partitions, and the brokers' clocks go on from there. Whatever
        is appended to this one once such a time has been over for a while has a later one. So if its log is asked for
        its end after that, and nothing counts that lies between the state and that end, it holds no further record up
        to that time: a fact, which the clock only finds out.

        Parameters
        ----------
        appended_ms
            Highest append time that is known now.
        now
            Monotonic seconds.
        longest_s
            How far beyond the highest append time a claim is of use.
        """
        if not self.told_idle or self.claim is not None:
            return None
        known, since = self.seen or (appended_ms, now)
        passed_s = now - since - SETTLING_S
        if self.seen is None or (passed_s >= 0 and known < appended_ms):
            self.seen = appended_ms, now
        if passed_s < 0 or known == NO_TIME:
            return None
        through_ms = known + int(1000 * min(passed_s, longest_s))
        enough_ms = 1 if passed_s >= longest_s else int(1000 * SETTLING_S)  # each claim is a record on every partition
        return through_ms if through_ms >= self.idle_through_ms + enough_ms else None
