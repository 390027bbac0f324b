"""The loop of a stage: emit, then save, then commit. It knows offsets and no statistics.

A crash between any two of the three repeats outputs, which are deterministic, and never loses one. The state's own
``next_offset`` is the truth; the committed offset only says where reading starts.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import Generic

from driftline.detectors.documents.bookmark import Bookmark
from driftline.streams.engine.chunks import Chunks
from driftline.streams.engine.held import Held
from driftline.streams.engine.log_checks import Checks
from driftline.streams.engine.ports import S, Sink, Stage, Store
from driftline.streams.engine.scheduling import Turns
from driftline.streams.formats.polled import Polled
from driftline.streams.formats.wire import Outgoing, Raw
from driftline.streams.kafka.recreated import bookmark_after
from driftline.streams.observability.watchdog import Progress

log = logging.getLogger(__name__)

LONGEST_REST_S, BUSY_TICK_S = 20.0, 2.0
SEEKS = 2
"""How often a partition is sought back before a jump of its offsets is believed to be a hole in the log."""


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
        self._held: dict[int, Held[S]] = {}
        self._taking, self._checks = False, Checks(store.check, turns.clock, interval_s)
        turns.join(self._held)

    @property
    def states(self) -> dict[int, S]:
        """State per owned partition."""
        return {partition: held.state for partition, held in self._held.items()}

    @property
    def bookmarks(self) -> dict[int, Bookmark]:
        """The last record that was read, per owned partition."""
        return {partition: mark for partition, state in self.states.items() if (mark := state.bookmark)}

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
        """Process what one poll of a partition brought, in log order: at least one record, or ``Polled``."""
        self._taking = True
        try:
            with self._turns.next():
                await self._take(partition, Polled.of(records))
        finally:
            self._taking = False

    async def _take(self, partition: int, polled: Polled) -> None:
        held = self._held.get(partition) or self._restore(partition)
        held.seen_at, held.turn, held.waited = self._clock(), self._turns.taken, 0
        used = self._stage.used_upto(held.state)
        async with self._exclusive(partition, held) as is_ours:
            if not is_ours:
                return
            await self._checks.before_reading(partition, held, polled.span.start)
            if not await self._is_contiguous(partition, held, polled.span.start):
                return
            held.has_begun = True
            if len(polled):
                held.state, outputs = self._stage.step(held.state, polled)
                await self._emit(held, outputs)
                held.state.bookmark = bookmark_after(polled, held.state.bookmark)
            held.state.next_offset = max(held.state.next_offset, polled.span.stop)
            if self._stage.used_upto(held.state) > used:
                held.is_used(self._clock())
        if self._clock() >= held.due_at:
            await self.checkpoint(partition)

    @asynccontextmanager
    async def _exclusive(self, partition: int, held: Held[S]) -> AsyncIterator[bool]:
        """Keep others from a state; false where it was released while we waited.

        After a failure, or a cancellation, a state may be ahead of what was sent. It is dropped, so that it can't be saved.
        """
        async with held.lock:
            try:
                yield self._held.get(partition) is held
            except BaseException:
                if self._held.get(partition) is held:
                    del self._held[partition]
                raise

    async def _emit(self, held: Held[S], outputs: Iterable[Outgoing]) -> None:
        for record in outputs:
            held.unacknowledged.append(await self._sink.send(record))

    def _restore(self, partition: int) -> Held[S]:
        place = self._store.topic, partition
        chunks, saved = Chunks.joined(self._store.load(partition))
        state, damaged = self._stage.restore(partition, saved)
        for error in damaged.values():
            log.error("%s[%d]: %s; left out, the log is read again from its beginning", *place, error)
        now = self._clock()
        held = self._held[partition] = Held(
            state, now + self._interval_s, now, bool(saved), state.next_offset, list(damaged), chunks
        )
        held.saved_bookmark = state.bookmark
        held.turn, held.used_at = self._turns.taken, now
        log.info("%s[%d]: goes on at offset %d", *place, state.next_offset)
        return held

    async def _is_contiguous(self, partition: int, held: Held[S], offset: int) -> bool:
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

    async def _pass_lost(self, partition: int, held: Held[S]) -> None:
        """Count what retention took before it was read; a state that has not begun just begins where the log does."""
        expected, start = held.state.next_offset, await self._store.log_start(partition)
        if start <= expected:
            return
        if held.has_begun:
            place = self._store.topic, partition, start - expected, expected, start - 1
            log.error("%s[%d]: %d records lost, offsets %d to %d: retention took them before they were read", *place)
            self._stage.gap(start - expected)
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

    async def nudge(self, partition: int, end: int) -> bool:
        """Read a partition again from where its state ends, if it has lag and brought nothing for a while.

        Faust empties its queues when a rebalance is over; what lay in them would never come again otherwise. What may
        still wait in a queue behind batches of others is left there.
        """
        held, now = self._held.get(partition), self._clock()
        if held is None or self._taking:
            return False
        if 0 <= end < held.state.next_offset:
            await self._checks.before_reading(partition, held, end, has_ended=True)
        has_lag = held.state.next_offset < end
        if has_lag and not held.has_had_its_turn(self._turns, now):
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
            started = self._clock()
            held.due_at = started + self._interval_s
            waiting, held.unacknowledged = held.unacknowledged, []
            await asyncio.gather(*waiting)
            next_offset = held.state.next_offset
            if next_offset == held.saved_offset:
                return
            await self._checks.before_saving(partition, held)
            removed = [(key, b"") for key in held.damaged]
            values = chain(removed, self._stage.dump(held.state))
            await self._store.save(partition, held.chunks.cut(values))
            held.damaged, held.saved_bookmark = [], held.state.bookmark
            # A large state is saved more seldom: what waits for tens of thousands of windows is tens of megabytes.
            held.due_at = max(held.due_at, self._clock() + min(LONGEST_REST_S, 4 * (self._clock() - started)))
            held.is_refused = not await self._store.commit(partition, next_offset)
            if not held.is_refused:
                held.saved_offset = next_offset

    async def say_what_is_due(self, partition: int) -> bool:
        """Let the stage go on without new records where it has something to say; false where it has not."""
        held = self._held.get(partition)
        if held is None or not self._stage.is_due(held.state):
            return False
        async with self._exclusive(partition, held) as is_ours:
            if is_ours:
                held.state, outputs = self._stage.step(held.state, [])
                await self._emit(held, outputs)
        return True

    async def tick(self) -> None:
        """To be called now and then: saves what is due and tells of silence."""
        now = self._clock()
        for partition, held in list(self._held.items()):
            if held.checked_through < 0:
                async with self._exclusive(partition, held) as is_ours:
                    if is_ours:
                        await self._checks.before_reading(partition, held, held.state.next_offset)
            if not held.told_idle and now - held.used_at >= self._idle_after_s:
                held.told_idle = True
                async with self._exclusive(partition, held) as is_ours:
                    if is_ours and held.told_idle:
                        await self._emit(held, self._stage.idle(held.state))
            while await self.say_what_is_due(partition) and self._clock() - now < BUSY_TICK_S:  # noqa: ASYNC110
                await asyncio.sleep(0)
            if now >= held.due_at and held.state.next_offset != held.saved_offset:
                await self.checkpoint(partition)
        await self._tell_how_long_idle()

    async def _tell_how_long_idle(self) -> None:
        """Say up to which append time nothing of use was appended to idle partitions, once they are read so far."""
        now, appended_ms = self._clock(), self._stage.appended_ms()
        found = {place: held.idle_claim(appended_ms, now, self._idle_after_s) for place, held in self._held.items()}
        through_ms = {partition: claim for partition, claim in found.items() if claim is not None}
        ends = await self._store.ends(through_ms) if through_ms else {}
        for partition, held in list(self._held.items()):
            if partition in ends and held.told_idle:
                held.claim = through_ms[partition], ends[partition]
            if held.claim is None:
                continue
            async with self._exclusive(partition, held) as is_ours:
                if is_ours and held.claim is not None and held.claim[1] <= held.state.next_offset:
                    (held.idle_through_ms, _), held.claim = held.claim, None
                    await self._emit(held, self._stage.idle_through(held.state, held.idle_through_ms))

    async def release(self, partitions: Iterable[int]) -> None:
        """Checkpoint partitions and forget them: another worker may own them next, and waits for all of them."""
        await asyncio.gather(*map(self._release, list(partitions)))

    async def _release(self, partition: int) -> None:
        await self.checkpoint(partition)
        held = self._held.pop(partition, None)  # a rebalance and a stop may both release it
        if held is not None:
            self._stage.released(held.state)
