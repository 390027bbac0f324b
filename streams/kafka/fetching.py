"""What aiokafka has fetched, read within bounds: nothing that lies on a topic ends a worker or fills its memory.

aiokafka raises at a batch that it can't read, forgets the records that it had read before it, and raises again at the
next attempt, for ever. Here every offset of such a batch gives a record instead, whose value says what is wrong: the
offsets stay without a hole, and each of them is rejected and counted like any other bad record.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any, ClassVar

import msgspec
from aiokafka.consumer import consumer, fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.structs import TopicPartition

from driftline.streams.formats.polled import Polled
from driftline.streams.formats.wire import MAX_DEAD_LETTER, Raw, Remains
from driftline.streams.kafka.codecs import BatchTooLarge, limited

log = logging.getLogger(__name__)

MAX_FETCH_BYTES = 2**22
"""Per partition. Larger batches cost less per record, above all with many models, and more memory."""
SMALL_RECORD_BYTES = 100
POLL_BYTES = 4 * 2**20
"""Bytes of one partition after which a poll ends."""
RESPONSE_BYTES = 2 * POLL_BYTES
"""Bytes, of all partitions, of one answer of a broker. It is in memory several times over while it is taken apart: with
aiokafka's own 50 MB, and many partitions to catch up with, that was the most that a worker ever held."""
ATTEMPTS = 3
"""How often a batch with a wrong checksum is fetched before it is believed that the broker has it so."""


def polls_per_fetch(max_batch_records: int) -> int:
    """After how many polls what one fetch has brought of a partition is used up, though its records be small.

    Examples
    --------
    4 MiB hold 41 943 records of 100 bytes: four polls of 10 000, and a fifth.

    >>> polls_per_fetch(10_000)
    5
    """
    return 1 + MAX_FETCH_BYTES // (SMALL_RECORD_BYTES * max_batch_records)


class FetchedRecord(msgspec.Struct, gc=False):
    """A record with the names of aiokafka's ``ConsumerRecord``, made in a third of its time, in two thirds of its memory.

    Kept out of the cyclic garbage collector, as what is decoded from it: tens of thousands wait for their turn.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    checksum: None
    serialized_key_size: int
    serialized_value_size: int
    headers: tuple[tuple[str, bytes | None], ...]


class _Batches:
    """The batches of one fetch, aiokafka's ``MemoryRecords``; it remembers the one that is being read."""

    def __init__(self, records: Any) -> None:
        self._records, self.current = records, None
        self.has_next = records.has_next

    def next_batch(self) -> Any:
        """The next batch."""
        self.current = None
        self.current = self._records.next_batch()
        return self.current


class ReadableRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka's class is untyped to us
    """Records of one partition, with a stand-in for each that can't be read.

    Parameters
    ----------
    tp
        Topic and partition.
    records, rest
        As aiokafka's class takes them.
    """

    next_fetch_offset: int
    _records_iterator: Iterator[FetchedRecord]
    _suspects: ClassVar[dict[TopicPartition, tuple[int, int]]]
    """Per partition, end and failed attempts of the batch that failed last."""

    def __init__(self, tp: TopicPartition, records: Any, *rest: Any) -> None:
        super().__init__(tp, _Batches(records), *rest)

    def __next__(self) -> FetchedRecord:
        try:
            return next(self._records_iterator)
        except StopIteration:
            raise
        except Exception as error:
            if self._records.current is None:
                raise  # not even the length of the batch can be believed: no broker keeps such a log
            self._records_iterator = self._after(error)
            return next(self)

    def _consumer_record(self, tp: TopicPartition, record: Any) -> FetchedRecord:
        """What aiokafka hands over; nobody here sets a deserializer."""
        key, value = record.key, record.value
        return FetchedRecord(
            tp.topic,
            tp.partition,
            record.offset,
            record.timestamp,
            record.timestamp_type,
            key,
            value,
            None,
            -1 if key is None else len(key),
            -1 if value is None else len(value),
            tuple(record.headers),
        )

    def _after(self, error: Exception) -> Iterator[FetchedRecord]:
        """What follows where a batch can't be read further: nothing, so that it is not fetched again, or stand-ins."""
        end = self._records.current.next_offset
        suspect, attempts = self._suspects.get(self._tp, (end, 0))
        attempts = attempts + 1 if suspect == end else 1
        if isinstance(error, CorruptRecordException) and attempts < ATTEMPTS:
            self._suspects[self._tp] = end, attempts
            return iter(())
        return chain(self._stand_ins(error), self._unpack_records())

    def _stand_ins(self, error: Exception) -> Iterator[FetchedRecord]:
        """One record for every offset of the batch that was not read."""
        tp, batch = self._tp, self._records.current
        offsets = range(max(self.next_fetch_offset, getattr(batch, "base_offset", 0)), batch.next_offset)
        log.error("%s[%d]: offsets %d to %d are rejected: %s", *tp, offsets.start, offsets.stop - 1, error)
        reason = "batch_too_large" if isinstance(error, BatchTooLarge) else "batch_corrupt"
        for offset in offsets:
            self.next_fetch_offset = offset + 1
            yield FetchedRecord(tp.topic, tp.partition, offset, 0, 0, None, Remains(reason), None, -1, 0, ())


class BoundedPoll(fetcher.FetchResult):  # type: ignore[misc]  # as above
    """What one fetch has brought of a partition; a poll takes some of it, by number and by bytes."""

    _partition_records: Any
    largest: ClassVar[int]
    """Bytes of a record beyond which only its beginning is kept."""
    most: ClassVar[int]
    """Records that a whole poll takes."""

    def getall(self, max_records: int | None = None) -> list[Raw]:
        """What one poll takes.

        Nothing where most of the poll is used up already: the rest would cut the batch in two, and the next poll takes
        it whole. Partitions have their turn in the order of their fetches.
        """
        if not self.check_assignment(self._topic_partition) or not self.has_more():
            return []
        if max_records is not None and max_records < self.most // 2:
            return []
        records, found, left = self._partition_records, list[Raw](), POLL_BYTES
        start = records.next_fetch_offset
        for record in records:
            size = record.serialized_key_size + record.serialized_value_size
            if record.headers:
                size += sum(len(name) + len(value or b"") for name, value in record.headers)
            found.append(record if size <= self.largest else _cut(record))
            left -= size
            if left <= 0 or len(found) == max_records:
                break
        else:
            self._partition_records = None
        self._assignment.state_value(self._topic_partition).consumed_to(records.next_fetch_offset)
        return Polled(found, range(start, records.next_fetch_offset))


class BoundedFetcher(fetcher.Fetcher):  # type: ignore[misc]  # as above
    """Asks for so much at once; Faust has no setting for it. Partitions are asked for in random order: none starves."""

    def __init__(self, *places: Any, **options: Any) -> None:
        super().__init__(*places, **options | {"fetch_max_bytes": RESPONSE_BYTES})


def _cut(record: FetchedRecord) -> FetchedRecord:
    """A record that is too large for anything, as what its dead letter needs of it."""
    value = record.value or b""
    remains = Remains("too_large", value[:MAX_DEAD_LETTER], len(value))
    place = record.topic, record.partition, record.offset, record.timestamp, record.timestamp_type
    return FetchedRecord(*place, None, remains, None, -1, len(remains), ())


@contextmanager
def bounded(max_batch_bytes: int, max_record_bytes: int, max_batch_records: int) -> Iterator[None]:
    """Let aiokafka's consumers, in all of this process, read within bounds; for programs of our own only.

    Parameters
    ----------
    max_batch_bytes
        A batch that would unpack to more is rejected, every offset of it.
    max_record_bytes
        A record that is longer, and longer than a poll, is cut as soon as it is read.
    max_batch_records
        As many records as consumers are told to poll at most.
    """
    bounds = {"largest": max(max_record_bytes, POLL_BYTES), "most": max_batch_records}
    poll = type("Poll", (BoundedPoll,), bounds)
    readable = type("Records", (ReadableRecords,), {"_suspects": {}})
    with ExitStack() as stack:
        stack.enter_context(limited(max_batch_bytes))
        for module, name, replacement in (
            (fetcher, "PartitionRecords", readable),
            (fetcher, "FetchResult", poll),
            (consumer, "Fetcher", BoundedFetcher),
        ):
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, replacement)
        yield
