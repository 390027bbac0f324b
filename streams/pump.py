"""The loop of a stage: emit, then save, then commit. It knows offsets and no statistics.

A crash between any two of the three repeats outputs, which are deterministic, and never loses one. The state's own
``next_offset`` is the truth; the committed offset only says where reading starts.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from driftline.detectors.errors import DamagedState
from driftline.streams.watchdog import Progress
from driftline.streams.wire import Outgoing, Raw

log = logging.getLogger(__name__)

SEEKS = 2
"""How often a partition is sought back before a jump of its offsets is believed to be a hole in the log."""


class State(Protocol):
    """What the pump needs to know of a state."""

    next_offset: int


S = TypeVar("S", bound=State)


class Sink(Protocol):
    """Where outputs go."""

    async def send(self, record: Outgoing) -> Awaitable[object]:
        """Start to write a record, after those that were sent before; the result is its acknowledgement."""
        ...


class Store(Protocol):
    """Where a stage's states and committed offsets are kept, and where its reading can be moved."""

    def load(self, partition: int) -> Mapping[bytes, bytes]:
        """The saved values of a partition."""
        ...

    async def save(self, partition: int, values: Iterable[tuple[bytes, bytes]]) -> None:
        """Write values in this order; return when all are acknowledged."""
        ...

    async def commit(self, partition: int, next_offset: int) -> None:
        """Say where reading would start without a state."""
        ...

    async def seek(self, partition: int, offset: int) -> None:
        """Go on reading there."""
        ...

    async def log_start(self, partition: int) -> int:
        """First offset that the log still has."""
        ...


class Stage(Protocol[S]):
    """One of the two stages: how to restore, advance and dump a state."""

    def restore(self, partition: int, saved: Mapping[bytes, bytes]) -> tuple[S, list[DamagedState]]:
        """State from saved values, and what was damaged."""
        ...

    def step(self, state: S, records: Sequence[Raw]) -> tuple[S, list[Outgoing]]:
        """Take in records of one partition."""
        ...

    def idle(self, state: S) -> list[Outgoing]:
        """What to send when the partition has been silent for a while."""
        ...

    def dump(self, state: S) -> Iterator[tuple[bytes, bytes]]:
        """Values to save, the partition's own last."""
        ...

    def gap(self, partition: int, lost: int) -> None:
        """Be told that the log lacks so many offsets that the state had not seen."""
        ...

    def released(self, state: S) -> None:
        """Be told that another worker may own this state's partition from now on."""
        ...


@dataclass(slots=True)
class _Held(Generic[S]):
    """One partition's state and what surrounds it."""

    state: S
    saved_at: float
    seen_at: float
    restored: bool
    unacknowledged: list[Awaitable[object]] = field(default_factory=list)
    saved_offset: int = -1
    holes: list[int] = field(default_factory=list)
    told_idle: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Pump(Generic[S]):
    """Runs one stage over the partitions that this worker owns.

    Parameters
    ----------
    stage, sink, store
        What to run, where outputs go, where states are kept.
    interval_s
        Seconds between two snapshots of a partition, at least.
    idle_after_s
        Seconds of silence after which a partition counts as idle.
    clock
        Monotonic seconds. It decides when to save and what is idle, never what is computed.
    """

    def __init__(  # noqa: PLR0913
        self,
        stage: Stage[S],
        sink: Sink,
        store: Store,
        *,
        interval_s: float,
        idle_after_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._stage, self._sink, self._store = stage, sink, store
        self._interval_s, self._idle_after_s, self._clock = interval_s, idle_after_s, clock
        self._held: dict[int, _Held[S]] = {}

    @property
    def states(self) -> dict[int, S]:
        """State per owned partition."""
        return {partition: held.state for partition, held in self._held.items()}

    def own(self, partitions: Iterable[int]) -> None:
        """Hold the states of these partitions, even of those that bring no records, and of no others.

        A batch that was queued before a rebalance may have brought back a state that is no longer ours.
        """
        owned = set(partitions)
        for partition in owned - self._held.keys():
            self._restore(partition)
        for partition in self._held.keys() - owned:
            self._stage.released(self._held.pop(partition).state)

    async def take(self, partition: int, records: Sequence[Raw]) -> None:
        """Take in the records that one poll of a partition brought, at least one, in log order."""
        held = self._held.get(partition) or self._restore(partition)
        held.seen_at, held.told_idle = self._clock(), False
        if not await self._is_contiguous(partition, held, records[0].offset):
            return
        async with held.lock:  # a state must not be saved before all that it sent
            held.state, outputs = self._stage.step(held.state, records)
            await self._emit(held, outputs)
        if self._clock() - held.saved_at >= self._interval_s:
            await self.checkpoint(partition)

    async def _emit(self, held: _Held[S], outputs: Iterable[Outgoing]) -> None:
        for record in outputs:
            held.unacknowledged.append(await self._sink.send(record))

    def _restore(self, partition: int) -> _Held[S]:
        saved = self._store.load(partition)
        state, damaged = self._stage.restore(partition, saved)
        for error in damaged:
            log.error("partition %d: %s; left out, the log is read again from its beginning", partition, error)
        now = self._clock()
        held = self._held[partition] = _Held(state, now, now, restored=bool(saved), saved_offset=state.next_offset)
        log.info("partition %d: goes on at offset %d", partition, state.next_offset)
        return held

    async def _is_contiguous(self, partition: int, held: _Held[S], offset: int) -> bool:
        """Whether a batch that starts there may be taken in.

        One that starts above the state was queued before a rebalance, or the log has a hole there: retention, or what
        compaction and transactions leave. It is dropped and the partition sought back. Batches that were queued start
        ever further on; a hole shows the same first offset again and again.
        """
        expected = held.state.next_offset
        if offset <= expected:
            held.holes.clear()
            return True
        lost = min(offset, await self._store.log_start(partition)) - expected
        held.holes = [*(hole for hole in held.holes if hole == offset), offset]
        if len(held.holes) <= (SEEKS if lost <= 0 else 0):
            await self._store.seek(partition, expected)
            return False
        held.holes.clear()
        if lost > 0 and held.restored:
            log.error("partition %d: offsets %d to %d are gone from the log", partition, expected, expected + lost - 1)
            self._stage.gap(partition, lost)
        return True

    def progress(self, partition: int, end: int) -> Progress:
        """How far an owned partition has come, of a log that ends there."""
        held = self._held[partition]
        return Progress(held.state.next_offset, end, held.saved_offset)

    async def checkpoint(self, partition: int) -> None:
        """Wait for what was sent, save the state, commit its offset."""
        held = self._held[partition]
        async with held.lock:
            if self._held.get(partition) is not held:
                return  # released while we waited for the lock
            held.saved_at = self._clock()
            # All three are taken at one moment; records that come while we wait belong to the next checkpoint.
            waiting, held.unacknowledged = held.unacknowledged, []
            next_offset, is_new = held.state.next_offset, held.state.next_offset != held.saved_offset
            values = list(self._stage.dump(held.state)) if is_new else []
            await asyncio.gather(*waiting)
            if not is_new:
                return
            await self._store.save(partition, values)
            await self._store.commit(partition, next_offset)
            held.saved_offset = next_offset

    async def tick(self) -> None:
        """To be called now and then: saves what is due and tells of silence."""
        now = self._clock()
        for partition, held in list(self._held.items()):
            if not held.told_idle and now - held.seen_at >= self._idle_after_s:
                held.told_idle = True
                async with held.lock:
                    await self._emit(held, self._stage.idle(held.state))
            if now - held.saved_at >= self._interval_s and held.state.next_offset != held.saved_offset:
                await self.checkpoint(partition)

    async def release(self, partitions: Iterable[int]) -> None:
        """Checkpoint partitions and forget them: another worker may own them next."""
        for partition in list(partitions):
            if partition in self._held:
                await self.checkpoint(partition)
                held = self._held.pop(partition, None)  # a rebalance and a stop may both release it
                if held is not None:
                    self._stage.released(held.state)
