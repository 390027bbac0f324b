"""Where a worker's outputs and states go: one producer, which stops for good at the first record that Kafka refuses."""

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from functools import partial

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.partitioner import DefaultPartitioner

from driftline.detectors.errors import OperatorError
from driftline.detectors.layout.sizes import MAX_RECORD_BYTES
from driftline.streams.engine.chunks import CHUNK_BYTES
from driftline.streams.formats.wire import Outgoing

log = logging.getLogger(__name__)

DEFAULT_MAX_BYTES = 1_048_588
"""Of a record, or a batch of them, that Kafka takes unless it is told otherwise."""
STATE_TABLES = ("profiles", "verdicts")
"""Tables of states: to their changelogs an empty value is a tombstone."""


class StickyPartitioner(DefaultPartitioner):  # type: ignore[misc]  # aiokafka's class is untyped to us
    """Keeps records without a key on one partition for a while, so that they share batches, as Kafka's own clients do.

    Dead letters have none. Spread at random over 32 partitions, every one of them was a batch of its own.
    """

    RUN = 1000

    def __init__(self) -> None:
        self._sent = 0

    def __call__(self, key: bytes | None, all_partitions: Sequence[int], available: Sequence[int]) -> int:
        """Choose a partition."""
        if key is not None:
            return int(super().__call__(key, all_partitions, available))
        self._sent += 1
        places = available or all_partitions
        return places[self._sent // self.RUN % len(places)]


class KafkaSink:
    """Writes outputs through a producer of its own: idempotent, so in order and without duplicates of its making.

    Once Kafka has refused a record for good, every later one fails too, even those that wait to be sent: a mark that
    arrived without the partials before it would close their windows without them.
    """

    def __init__(self, producer: AIOKafkaProducer, topics: dict[str, str]) -> None:
        self._producer, self._topics = producer, topics
        self._refused: BaseException | None = None
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Ends with what the operator has to know of a record that Kafka has refused."""

    async def send(self, record: Outgoing) -> Awaitable[object]:
        """Start to write; the result is the broker's acknowledgement.

        Raises
        ------
        OperatorError
            Where the record is larger than any that may be sent.
        """
        topic = self._topics[record.topic]
        value = record.value or (None if record.topic in STATE_TABLES else b"")
        try:
            acknowledged: asyncio.Future[object] = await self._producer.send(
                topic, value, key=record.key, partition=record.partition, headers=list(record.headers)
            )
        except MessageSizeTooLargeError as error:
            raise self._too_large(topic, len(record.value)) from error
        acknowledged.add_done_callback(partial(self._check, topic, len(record.value)))
        return acknowledged

    def _too_large(self, topic: str, size: int) -> OperatorError:
        """Why a worker ends rather than try again: the same record would come again, at every start."""
        return OperatorError(
            f"topic {topic!r}: Kafka does not take a record of {size} bytes. driftline writes none above "
            f"{MAX_RECORD_BYTES} (state: {CHUNK_BYTES}): set the topic's max.message.bytes to {DEFAULT_MAX_BYTES}, "
            "Kafka's default"
        )

    def _check(self, topic: str, size: int, acknowledged: asyncio.Future[object]) -> None:
        error = None if acknowledged.cancelled() else acknowledged.exception()
        if error is None or self._refused is not None:
            return
        self._refused = error
        if isinstance(error, (MessageSizeTooLargeError, RecordListTooLargeError)) and not self.failed.done():
            self.failed.set_exception(self._too_large(topic, size))
        log.critical("Kafka refused a record for good: %s; nothing more is sent", error)
        # aiokafka would go on with the next batch. It asks its client in a task that starts after this callback.
        self._producer.client.send = self._refuse

    async def _refuse(self, *_: object, **_options: object) -> None:
        raise KafkaError(f"not sent, for a record before it was refused: {self._refused}")
