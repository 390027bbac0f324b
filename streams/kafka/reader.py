"""Reading a topic of driftline's documents."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from driftline.streams.kafka.connection import address, opened
from driftline.streams.kafka.topics import partitions_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    from driftline.streams.config.settings import Kafka

Start = Literal["beginning", "end"] | int
"""The topic's beginning or end, or so many records of each partition before the end."""
Stop = Literal["end", "never"]
"""The end that the topic had when the reading began, or never."""

Document = TypeVar("Document")
POLL_MS = 500
BEFORE_END = {"beginning": 2**63 - 1, "end": 0}


class RecordReader:
    """Records of one topic: an asynchronous context manager, and inside it an asynchronous iterator.

    Records of one partition come in their order.

    Parameters
    ----------
    kafka
        Where Kafka is: ``host:port``, or a :class:`~driftline.streams.config.settings.Kafka` that says how to get in.
    topic
        Which topic.
    start, stop
        From where to where.

    Attributes
    ----------
    ends : dict
        Partition to the end that it had when the reading began.
    size : int
        How many offsets there are from the start to these ends.
    """

    def __init__(self, kafka: Kafka | str, topic: str, start: Start = "end", stop: Stop = "never") -> None:
        self._kafka = address(kafka)
        self._topic = topic
        self._start = start
        self._stop = stop
        self._stack = AsyncExitStack()
        self._consumer: Any = None
        self.ends: dict[int, int] = {}
        self.size = 0

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

    async def __aiter__(self) -> AsyncIterator[Any]:
        while not await self._is_done():
            for records in (await self._consumer.getmany(timeout_ms=POLL_MS)).values():
                for record in records:
                    if self._stop == "never" or record.offset < self.ends[record.partition]:
                        yield record

    def seek(self, starts: Mapping[int, int]) -> None:
        """Go on reading at these offsets, by partition."""
        for partition, offset in starts.items():
            self._consumer.seek(TopicPartition(self._topic, partition), offset)

    async def _assign(self) -> None:
        """Take every partition, from the start on."""
        partitions = [TopicPartition(self._topic, each) for each in await partitions_of(self._kafka, self._topic)]
        self._consumer.assign(partitions)
        begins = await self._consumer.beginning_offsets(partitions)
        for place, end in (await self._consumer.end_offsets(partitions)).items():
            before = BEFORE_END[self._start] if isinstance(self._start, str) else self._start
            start = max(begins[place], end - before)
            self._consumer.seek(place, start)
            self.ends[place.partition] = end
            self.size += end - start

    async def _is_done(self) -> bool:
        """Whether every partition was read to the end; the position also passes what was compacted away."""
        if self._stop == "never":
            return False
        places = {TopicPartition(self._topic, partition): end for partition, end in self.ends.items()}
        return all([await self._consumer.position(place) >= end for place, end in places.items()])


class TopicReader(RecordReader, Generic[Document]):
    """Documents of one topic.

    Deletions are passed over, and so is what is no document of this kind: one bad record must not end a subscription.

    Parameters
    ----------
    kafka, topic, start, stop
        As :class:`RecordReader` takes them.
    document
        What its records hold: a ``msgspec.Struct``.

    Attributes
    ----------
    undecodable : int
        Records that were passed over because they are no such document.
    """

    def __init__(
        self, kafka: Kafka | str, topic: str, document: type[Document], start: Start = "end", stop: Stop = "never"
    ) -> None:
        super().__init__(kafka, topic, start, stop)
        self._decode = msgspec.json.Decoder(document).decode
        self.undecodable = 0

    async def __aiter__(self) -> AsyncIterator[Document]:
        async for record in super().__aiter__():
            if record.value is None:
                continue
            try:
                document = self._decode(record.value)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self.undecodable += 1
            else:
                yield document
