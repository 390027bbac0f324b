"""The loop of a stage: emit, then save, then commit. It knows offsets and no statistics.

A crash between any two of the three repeats outputs, which are deterministic, and never loses one. The state's own
``next_offset`` is the truth; the committed offset only says where reading starts.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic

from driftline.detectors.windows import NO_TIME
from driftline.streams.seams import KNOWN_AFTER_S, Polled, S, Sink, Stage, Store
from driftline.streams.turns import REST_S, Turns
from driftline.streams.watchdog import Progress
from driftline.streams.wire import Outgoing, Raw

log = logging.getLogger(__name__)

SEEKS = 2
"""How often a partition is sought back before a jump of its offsets is believed to be a hole in the log."""


@dataclass(slots=True)
class _Held(Generic[S]):
    """One partition's state and what surrounds it."""

    state: S
    saved_at: float
    seen_at: float
    has_begun: bool
    saved_offset: int
    damaged: list[bytes]
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
    turns
        Shared by the pumps of a worker. Their clock decides when to save and what is idle, never what is computed.
    """

    def __init__(
        self, stage: Stage[S], sink: Sink, store: Store, *, interval_s: float, idle_after_s: float, turns: Turns
    ) -> None:
        self._stage, self._sink, self._store = stage, sink, store
        self._interval_s, self._idle_after_s, self._turns, self._clock = interval_s, idle_after_s, turns, turns.clock
        self._held: dict[int, _Held[S]] = {}
        self._taking = False
        turns.join(self._held)

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
        """Take in what one poll of a partition brought, in log order: at least one record, or ``Polled``."""
        self._taking = True
        try:
            with self._turns.next():
                await self._take(partition, Polled.of(records))
        finally:
            self._taking = False

    async def _take(self, partition: int, polled: Polled) -> None:
        held = self._held.get(partition) or self._restore(partition)
        held.seen_at, held.told_idle, held.turn, held.waited = self._clock(), False, self._turns.taken, 0
        held.seen = None
        async with self._exclusive(partition, held) as is_ours:
            if not is_ours or not await self._is_contiguous(partition, held, polled.span.start):
                return
            held.has_begun = True
            if len(polled):
                held.state, outputs = self._stage.step(held.state, polled)
                await self._emit(held, outputs)
            held.state.next_offset = max(held.state.next_offset, polled.span.stop)
        if self._clock() - held.saved_at >= self._interval_s:
            await self.checkpoint(partition)

    @asynccontextmanager
    async def _exclusive(self, partition: int, held: _Held[S]) -> AsyncIterator[bool]:
        """Keep others from a state; false where it was released while we waited.

        After a failure, or a cancellation, a state may be ahead of what was sent. Lest it be saved, it is forgotten.
        """
        async with held.lock:
            try:
                yield self._held.get(partition) is held
            except BaseException:
                if self._held.get(partition) is held:
                    del self._held[partition]
                raise

    async def _emit(self, held: _Held[S], outputs: Iterable[Outgoing]) -> None:
        for record in outputs:
            held.unacknowledged.append(await self._sink.send(record))

    def _restore(self, partition: int) -> _Held[S]:
        saved = self._store.load(partition)
        state, damaged = self._stage.restore(partition, saved)
        for error in damaged.values():
            log.error("partition %d: %s; left out, the log is read again from its beginning", partition, error)
        now = self._clock()
        held = self._held[partition] = _Held(state, now, now, bool(saved), state.next_offset, list(damaged))
        held.turn = self._turns.taken
        log.info("partition %d: goes on at offset %d", partition, state.next_offset)
        return held

    async def _is_contiguous(self, partition: int, held: _Held[S], offset: int) -> bool:
        """Whether a batch that starts there may be taken in.

        One that starts above the state was queued before a rebalance, or the log has a hole there (compaction and
        transactions leave some). It is dropped and the partition sought back. Batches that were queued start ever
        further on; a hole shows the same first offset again and again.
        """
        if offset > held.state.next_offset:
            await self._pass_lost(partition, held)
        expected = held.state.next_offset
        if offset <= expected:
            held.holes.clear()
            return True
        held.holes = [*(hole for hole in held.holes if hole == offset), offset]
        if len(held.holes) <= SEEKS:
            await self._store.seek(partition, expected)
            return False
        held.holes.clear()
        return True

    async def _pass_lost(self, partition: int, held: _Held[S]) -> None:
        """Count what retention took before it was read; a state that has not begun just begins where the log does."""
        expected, start = held.state.next_offset, await self._store.log_start(partition)
        if start <= expected:
            return
        if held.has_begun:
            log.error("partition %d: offsets %d to %d are gone from the log", partition, expected, start - 1)
            self._stage.gap(partition, start - expected)
        held.state.next_offset = start

    def progress(self, partition: int, end: int) -> Progress:
        """How far an owned partition has come, of a log that ends there.

        While its commits are refused it comes no further: this worker may have dropped out of the group, and somebody
        else own the partition.
        """
        held = self._held[partition]
        if held.is_refused:
            return Progress(held.saved_offset, end, held.saved_offset)
        if self._store.is_fetched(partition):
            held.waited = max(held.waited, self._turns.waited(held.turn))
        return Progress(held.state.next_offset, end, held.saved_offset, held.waited)

    def _has_had_its_turn(self, held: _Held[S], now: float) -> bool:
        """Whether nothing of a silent partition can be in the queue any more."""
        is_silent = now - max(held.seen_at, held.waits_since) >= REST_S
        return is_silent and not self._turns.is_in_queue(max(held.turn, held.waits_turn))

    async def nudge(self, partition: int, end: int) -> bool:
        """Read a partition again from where its state ends, if it has lag and brought nothing for a while.

        Faust empties its queues when a rebalance is over; what lay in them would never come again otherwise. What may
        still wait in a queue behind batches of others is left there.
        """
        held, now = self._held.get(partition), self._clock()
        if held is None or self._taking:
            return False
        has_lag = held.state.next_offset < end
        if has_lag and not self._has_had_its_turn(held, now):
            return False
        held.waits_since, held.waits_turn = now, self._turns.taken  # after a silence, too, what comes has its time
        if not has_lag:
            return False
        async with self._exclusive(partition, held) as is_ours:
            # Only what was handed over and did not arrive is to be read again. A seek while a first fetch is still
            # under way would throw that away, and again and again.
            if is_ours and self._store.position(partition) > held.state.next_offset:
                await self._pass_lost(partition, held)  # all that was left of the log may be gone
                if self._store.position(partition) > held.state.next_offset:
                    await self._store.seek(partition, held.state.next_offset)
        return True

    async def checkpoint(self, partition: int) -> None:
        """Wait for what was sent, save the state, commit its offset."""
        held = self._held.get(partition)
        if held is None:
            return
        async with self._exclusive(partition, held) as is_ours:
            if not is_ours:
                return
            held.saved_at = self._clock()
            waiting, held.unacknowledged = held.unacknowledged, []
            await asyncio.gather(*waiting)
            next_offset = held.state.next_offset
            if next_offset == held.saved_offset:
                return
            removed = [(key, b"") for key in held.damaged]
            await self._store.save(partition, [*removed, *self._stage.dump(held.state)])
            held.damaged = []
            held.is_refused = not await self._store.commit(partition, next_offset)
            if not held.is_refused:
                held.saved_offset = next_offset

    async def tick(self) -> None:
        """To be called now and then: saves what is due and tells of silence."""
        now = self._clock()
        for partition, held in list(self._held.items()):
            if not held.told_idle and now - held.seen_at >= self._idle_after_s:
                held.told_idle = True
                async with self._exclusive(partition, held) as is_ours:
                    if is_ours:
                        await self._emit(held, self._stage.idle(held.state))
            if now - held.saved_at >= self._interval_s and held.state.next_offset != held.saved_offset:
                await self.checkpoint(partition)
        await self._tell_how_long_idle()

    async def _tell_how_long_idle(self) -> None:
        """Say up to which append time nothing was appended to idle partitions.

        Which append times there are is learnt from other partitions. Whatever is appended to a partition once such a
        time has been known for a while has one that is later by more than ``BURST_MS``. So if its log, asked for its end
        after that, still ends where the state does, it was idle at that time: a fact, which the clock only finds out.
        Where records wait to be read, nothing is said.
        """
        now, through_ms = self._clock(), dict[int, int]()
        for partition, held in self._held.items():
            if not held.told_idle or (held.seen is not None and now - held.seen[1] < KNOWN_AFTER_S):
                continue
            if held.seen is not None and held.seen[0] > held.idle_through_ms:
                through_ms[partition] = held.seen[0]
            held.seen = self._stage.appended_ms(), now
        ends = await self._store.ends(through_ms) if through_ms else {}
        for partition, end in ends.items():
            held_now = self._held.get(partition)
            if held_now is None:
                continue
            async with self._exclusive(partition, held_now) as is_ours:
                if is_ours and held_now.told_idle and held_now.state.next_offset == end:
                    held_now.idle_through_ms = through_ms[partition]
                    await self._emit(held_now, self._stage.idle_through(held_now.state, through_ms[partition]))

    async def release(self, partitions: Iterable[int]) -> None:
        """Checkpoint partitions and forget them: another worker may own them next, and waits for all of them."""
        await asyncio.gather(*map(self._release, list(partitions)))

    async def _release(self, partition: int) -> None:
        await self.checkpoint(partition)
        held = self._held.pop(partition, None)  # a rebalance and a stop may both release it
        if held is not None:
            self._stage.released(held.state)
