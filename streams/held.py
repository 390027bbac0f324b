"""What a pump holds of one partition."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Generic

from driftline.detectors.windows import NO_TIME
from driftline.streams.chunks import Chunks
from driftline.streams.seams import S


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
    checked_through: int = -1
    """Offset of the state when its log was last seen to be the one that it was read from."""
    unacknowledged: list[Awaitable[object]] = field(default_factory=list)
    holes: list[int] = field(default_factory=list)
    told_idle: bool = False
    seen: tuple[int, float] | None = None
    """An append time of other partitions, and when it was known, while this one is idle."""
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
