"""States in a Faust table's changelog, offsets in the consumer group."""

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from driftline.detectors.documents.bookmark import Bookmark
from driftline.streams.engine.ports import Sink
from driftline.streams.formats.wire import Outgoing
from driftline.streams.kafka.recreated import Lookup

log = logging.getLogger(__name__)

COMMIT_TIMEOUT_S = 10.0
ENDS_TIMEOUT_S = 5.0


class Slot:
    """A saved value, written over the one before it.

    Values come every few seconds, each of another length. As objects of their own they would leave holes that only
    shorter ones fit into, and the heap would grow for hours; here a value stays in its place until it has outgrown it.

    Parameters
    ----------
    value
        The first one.

    Examples
    --------
    Eight bytes have room for ten.

    >>> slot = Slot(b"8 bytes.")
    >>> slot.write(b"ten bytes.")
    >>> bytes(slot), len(slot)
    (b'ten bytes.', 10)
    """

    __slots__ = ("_buffer", "_size")

    def __init__(self, value: bytes) -> None:
        self._buffer, self._size = bytearray(), 0
        self.write(value)

    def write(self, value: bytes) -> None:
        """Put a value in the place of the one before."""
        self._size = len(value)
        if self._size > len(self._buffer):
            self._buffer = bytearray(self._size + self._size // 4)
        self._buffer[: self._size] = value

    def __bytes__(self) -> bytes:
        return bytes(memoryview(self._buffer)[: self._size])

    def __len__(self) -> int:
        return self._size


class TableStore:
    """Store of one stage.

    Parameters
    ----------
    app
        The Faust application.
    topic
        The topic that the stage reads; partition p of the changelog holds the state of its partition p.
    table
        Faust table of bytes to bytes: it restores what its changelog keeps.
    sink
        Writes the changelog. (Faust's own ``send_changelog`` was seen never to complete while a group rebalances.)
    lookup
        Asks whether a log is the one that a state was read from.
    """

    def __init__(self, app: Any, topic: str, table: Any, sink: Sink, lookup: Lookup) -> None:
        self._app, self.topic, self._table, self._sink, self._lookup = app, topic, table, sink, lookup

    def load(self, partition: int) -> Mapping[bytes, bytes]:
        """The saved values of a partition, as the changelog gave them back or they were saved; an empty one was removed."""
        prefix = _prefix(partition)
        saved = self._table.data.items()
        return {key[len(prefix) :]: bytes(value) for key, value in saved if value and key.startswith(prefix)}

    async def save(self, partition: int, values: Iterable[tuple[bytes, bytes]]) -> None:
        """Write values in this order; return when all are acknowledged."""
        prefix, sent = _prefix(partition), []
        for key, value in values:
            record = Outgoing(self._table.name, prefix + key, value, partition=partition)
            sent.append(await self._sink.send(record))
            self._keep(prefix + key, value)
        await asyncio.gather(*sent)

    def _keep(self, key: bytes, value: bytes) -> None:
        """Keep a value where Faust keeps those of the changelog; `table[key] = value` works only inside an event."""
        held = self._table.data.get(key)
        if not value:
            self._table.data.pop(key, None)
        elif isinstance(held, Slot):
            held.write(value)
        else:
            self._table.data[key] = Slot(value)

    async def commit(self, partition: int, next_offset: int) -> bool:
        """Commit an offset: a hint, for the state's own offset decides. Refused for long, it shows in the watchdog.

        Not by Faust's own way, on which commits that hang and fetches wait for the same two hands.
        """
        offsets = {TopicPartition(self.topic, partition): OffsetAndMetadata(next_offset, "")}
        commit = asyncio.wait_for(self._thread._consumer.commit(offsets), COMMIT_TIMEOUT_S)  # noqa: SLF001
        try:
            await self._in_thread(commit)
        except (KafkaError, TimeoutError) as error:
            place = self.topic, partition, next_offset
            log.warning("%s[%d]: offset %d is saved, but not committed: %r", *place, error)
            return False
        return True

    async def seek(self, partition: int, offset: int) -> None:
        """Go on reading there.

        aiokafka's consumer runs in a thread of its own and may be touched from there only: a seek from here, while it
        hands over what it has fetched, ends it with a KeyError.
        """
        log.info("%s[%d]: sought to offset %d, where its state ends", self.topic, partition, offset)
        await self._in_thread(self._app.consumer.seek(TP(self.topic, partition), offset))

    def position(self, partition: int) -> int:
        """Offset of the next record that would be handed over; 0 where that is not known yet."""
        read = self._read(partition)
        return 0 if read is None else read._position or 0  # noqa: SLF001

    def end(self, partition: int) -> int | None:
        """End of the log as the last fetch told it."""
        read = self._read(partition)
        return None if read is None else read.highwater

    async def ends(self, partitions: Iterable[int]) -> Mapping[int, int]:
        """Ends of logs, asked for after the call; those that no broker tells now are left out.

        `end` is older than the call. Like commits this goes past the thread's queue.
        """
        places = [TopicPartition(self.topic, partition) for partition in partitions]
        try:
            found = await self._in_thread(
                asyncio.wait_for(self._thread._consumer.end_offsets(places), ENDS_TIMEOUT_S)  # noqa: SLF001
            )
        except (KafkaError, TimeoutError) as error:
            log.warning("%s: no broker tells where the log ends: %r", self.topic, error)
            return {}
        return {place.partition: end for place, end in found.items()}

    def _read(self, partition: int) -> Any:
        """What aiokafka knows of a partition that is assigned; None of others.

        Its own questions would wait in the consumer's thread, behind commits and before fetches, or insist that it be
        assigned. A rebalance there may change what is read here at any moment, so each thing is looked at once.
        """
        place, subscription = TopicPartition(self.topic, partition), self._thread._consumer._subscription.subscription  # noqa: SLF001
        assignment = None if subscription is None else subscription.assignment
        if assignment is None or place not in assignment.tps:
            return None
        return assignment.state_value(place)

    def is_fetched(self, partition: int) -> bool:
        """Whether records lie here that a poll has not yet handed over: polls take partitions by turns."""
        return TopicPartition(self.topic, partition) in self._thread._consumer._fetcher._records  # noqa: SLF001

    async def check(self, partition: int, bookmark: Bookmark) -> None:
        """See that the log is the one that a bookmark was read from."""
        await self._lookup.check(self.topic, partition, bookmark)

    async def log_start(self, partition: int) -> int:
        """First offset that the log still has; waits for Kafka where that is away."""
        tp = TP(self.topic, partition)
        while True:
            try:
                return int((await self._app.consumer.earliest_offsets(tp))[tp])
            except KafkaTimeoutError:  # after 40 s
                log.warning("%s[%d]: no broker tells where the log begins; waiting", *tp)

    @property
    def _thread(self) -> Any:
        """Where aiokafka's consumer lives."""
        return self._app.consumer._thread  # noqa: SLF001

    async def _in_thread(self, done: Coroutine[Any, Any, Any]) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(done, self._thread.thread_loop))


def _prefix(partition: int) -> bytes:
    return f"{partition}/".encode()
