"""Writing to Kafka so that the number of records that arrived is known."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from driftline.streams.kafka.connection import explained, opened
from driftline.streams.kafka.topics import partitions_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from driftline.streams.config.settings import Kafka

PRODUCER: dict[str, Any] = {
    "acks": "all",
    # Not idempotent: an idempotent producer of aiokafka tries for ever and can't be closed while Kafka is away. The price
    # is that a record whose acknowledgement got lost may be written twice.
    "enable_idempotence": False,
    "compression_type": "lz4",
    "max_batch_size": 256 * 1024,
}


class Outbox:
    """Records on their way to one topic.

    An asynchronous context manager: leaving it waits until Kafka has acknowledged every record, or raises.

    Parameters
    ----------
    kafka
        Where Kafka is.
    topic
        Where the records go.

    Attributes
    ----------
    partitions : list of int
        The topic's.
    acknowledged : int
        Records that all in-sync replicas have.
    failed : int
        Records that Kafka did not take.
    """

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._stack = AsyncExitStack()
        self._producer: Any = None
        self._error: BaseException | None = None
        self.partitions: list[int] = []
        self.acknowledged = 0
        self.failed = 0

    async def __aenter__(self) -> Self:
        self.partitions = await partitions_of(self._kafka, self._topic)  # aiokafka would look for it for 40 s
        async with AsyncExitStack() as stack:
            self._producer = await stack.enter_async_context(opened(AIOKafkaProducer, self._kafka, **PRODUCER))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._stack:
            if error is None:
                await self.flush()

    async def send(
        self,
        value: bytes,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
    ) -> asyncio.Future[Any]:
        """Hand a record over; waits only while the buffer is full.

        Parameters
        ----------
        value, key, headers
            As Kafka has them.
        partition
            None: by the key.

        Returns
        -------
        A future that ends with the acknowledgement. To leave it alone is safe: a failure is counted, and
        :meth:`flush` raises it.

        Raises
        ------
        OperatorError
            For a record that can never be sent: it is too large.
        """
        try:
            future: asyncio.Future[Any] = await self._producer.send(
                self._topic, value, key, partition=partition, headers=headers
            )
        except KafkaError as error:
            self.failed += 1
            raise explained(self._kafka, error) from error
        future.add_done_callback(self._count)
        return future

    async def settled(self, future: asyncio.Future[Any]) -> None:
        """Wait for the acknowledgement of one record.

        Raises
        ------
        KafkaUnreachable
            Where Kafka did not answer.
        OperatorError
            Where Kafka refused it.
        """
        try:
            await future
        except KafkaError as error:
            self._error = None if self._error is error else self._error  # told here, so not once more by `flush`
            raise explained(self._kafka, error) from error

    async def flush(self) -> None:
        """Wait until every record is acknowledged or given up.

        Raises
        ------
        KafkaUnreachable
            Where records were given up because Kafka did not answer; once for each loss.
        OperatorError
            Where Kafka refused them.
        """
        await self._producer.flush()
        if self._error is not None:
            error, self._error = self._error, None
            cause = explained(self._kafka, error)
            raise type(cause)(f"{self.failed} records were not acknowledged: {cause}") from error

    def _count(self, future: asyncio.Future[Any]) -> None:
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is None:
            self.acknowledged += 1
        else:
            self.failed += 1
            self._error = self._error or error
