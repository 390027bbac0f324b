"""Reading a topic of driftline's documents."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from driftline.streams.connection import address, opened
from driftline.streams.topics import partitions_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from driftline.streams.config import Kafka

Start = Literal["beginning", "end"] | int
"""The topic's beginning or end, or so many records of each partition before the end."""
Stop = Literal["end", "never"]
"""The end that the topic had when the reading began, or never."""

Document = TypeVar("Document")
POLL_MS = 500
BEFORE_END = {"beginning": 2**63 - 1, "end": 0}


class TopicReader(Generic[Document]):
    """Documents of one topic: an asynchronous context manager, and inside it an asynchronous iterator.

    Records of one partition come in their order. Deletions are passed over, and so is what is no document of this
    kind: one bad record must not end a subscription.

    Parameters
    ----------
    kafka
        Where Kafka is: ``host:port``, or a :class:`~driftline.streams.config.Kafka` that says how to get in.
    topic
        Which topic.
    document
        What its records hold: a ``msgspec.Struct``.
    start, stop
        From where to where.

    Attributes
    ----------
    undecodable : int
        Records that were passed over because they are no such document.
    """

    def __init__(
        self, kafka: Kafka | str, topic: str, document: type[Document], start: Start = "end", stop: Stop = "never"
    ) -> None:
        self._kafka = address(kafka)
        self._topic = topic
        self._decode = msgspec.json.Decoder(document).decode
        self._start = start
        self._stop = stop
        self._stack = AsyncExitStack()
        self._consumer: Any = None
        self._ends: dict[TopicPartition, int] = {}
        self.undecodable = 0

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._consumer = await stack.enter_async_context(
                opened(AIOKafkaConsumer, self._kafka, auto_offset_reset="earliest", fetch_max_wait_ms=POLL_MS)
            )
            await self._assign()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, trace)

    async def __aiter__(self) -> AsyncIterator[Document]:
        async for record in self.records():
            if record.value is None:
                continue
            try:
                document = self._decode(record.value)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self.undecodable += 1
            else:
                yield document

    async def records(self) -> AsyncIterator[Any]:
        """Yield the records as they are, with offset and timestamp; aiokafka's ``ConsumerRecord``."""
        while not await self._is_done():
            for records in (await self._consumer.getmany(timeout_ms=POLL_MS)).values():
                for record in records:
                    if not self._is_beyond(record):
                        yield record

    async def _assign(self) -> None:
        """Take every partition, from the start on."""
        partitions = [TopicPartition(self._topic, each) for each in await partitions_of(self._kafka, self._topic)]
        self._consumer.assign(partitions)
        begins = await self._consumer.beginning_offsets(partitions)
        self._ends = await self._consumer.end_offsets(partitions)
        for partition, end in self._ends.items():
            before = BEFORE_END[self._start] if isinstance(self._start, str) else self._start
            self._consumer.seek(partition, max(begins[partition], end - before))

    async def _is_done(self) -> bool:
        """Whether every partition was read to the end; the position also passes what was compacted away."""
        if self._stop == "never":
            return False
        return all([await self._consumer.position(partition) >= end for partition, end in self._ends.items()])

    def _is_beyond(self, record: Any) -> bool:
        return self._stop == "end" and record.offset >= self._ends[TopicPartition(record.topic, record.partition)]
