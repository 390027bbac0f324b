"""States in a Faust table's changelog, offsets in the consumer group."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaTimeoutError
from faust.types import TP

from driftline.streams.seams import Sink
from driftline.streams.wire import Outgoing

log = logging.getLogger(__name__)

COMMIT_TIMEOUT_S = 10.0


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
    """

    def __init__(self, app: Any, topic: str, table: Any, sink: Sink) -> None:
        self._app, self._topic, self._table, self._sink = app, topic, table, sink
        self._turn = asyncio.Lock()
        self._hanging: asyncio.Future[bool] | None = None

    def load(self, partition: int) -> Mapping[bytes, bytes]:
        """The saved values of a partition, as the changelog gave them back; an empty one was removed."""
        prefix = _prefix(partition)
        saved = self._table.data.items()
        return {key[len(prefix) :]: value for key, value in saved if value and key.startswith(prefix)}

    async def save(self, partition: int, values: Iterable[tuple[bytes, bytes]]) -> None:
        """Write values in this order; return when all are acknowledged."""
        prefix, sent = _prefix(partition), []
        for key, value in values:
            record = Outgoing(self._table.name, prefix + key, value, partition=partition)
            sent.append(await self._sink.send(record))
            self._table.data[prefix + key] = value  # `table[key] = value` works only inside an event
        await asyncio.gather(*sent)

    async def commit(self, partition: int, next_offset: int) -> bool:
        """Commit an offset: a hint, for the state's own offset decides. Refused for long, it shows in the watchdog.

        One at a time, and none while one hangs: the consumer's thread has two hands, and one must be free to fetch.
        """
        async with self._turn:
            done = False
            if self._hanging is None or self._hanging.done():
                commit = self._app.consumer._commit({TP(self._topic, partition): next_offset})  # noqa: SLF001
                self._hanging = asyncio.ensure_future(commit)
                await asyncio.wait([self._hanging], timeout=COMMIT_TIMEOUT_S)
                done = self._hanging.done() and self._hanging.result()
        if not done:
            log.warning("%s[%d]: offset %d is saved, but not committed", self._topic, partition, next_offset)
        return done

    async def seek(self, partition: int, offset: int) -> None:
        """Go on reading there.

        aiokafka's consumer runs in a thread of its own and may be touched from there only: a seek from here, while it
        hands over what it has fetched, ends it with a KeyError.
        """
        log.info("%s[%d]: sought to offset %d, where its state ends", self._topic, partition, offset)
        consumer = self._app.consumer
        sought = consumer.seek(TP(self._topic, partition), offset)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(sought, consumer._thread.thread_loop))  # noqa: SLF001

    def position(self, partition: int) -> int:
        """Offset of the next record that would be handed over; 0 where that is not known yet.

        aiokafka's own question would wait in the consumer's thread, behind commits and before fetches.
        """
        place, known = TopicPartition(self._topic, partition), self._app.consumer._thread._consumer._subscription  # noqa: SLF001
        if not known.is_assigned(place):
            return 0
        state = known.subscription.assignment.state_value(place)
        return int(state.position) if state.has_valid_position else 0

    async def log_start(self, partition: int) -> int:
        """First offset that the log still has; waits for Kafka where that is away."""
        tp = TP(self._topic, partition)
        while True:
            try:
                return int((await self._app.consumer.earliest_offsets(tp))[tp])
            except KafkaTimeoutError:  # after 40 s
                log.warning("%s[%d]: no broker tells where the log begins; waiting", *tp)


def _prefix(partition: int) -> bytes:
    return f"{partition}/".encode()
