"""Is this the log that the state was read from? A topic may have been deleted and made again, or its log been cut.

Offsets alone don't tell: a new log soon has as many records. So a state carries the offset, the append time and the
checksum of the last record that was read, and what lies at that offset is held against it: when a partition is taken up,
when it is lost, when records come again from below, when the log ends before the state, and before snapshots. Retention is no
contradiction, nor is a place without a record.
"""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zlib import crc32

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from prometheus_client import Counter

from driftline.detectors.documents.bookmark import Bookmark
from driftline.detectors.errors import START_OVER, OperatorError
from driftline.streams.formats.wire import Raw, Remains

log = logging.getLogger(__name__)

ATTEMPTS, PAUSE_S = 4, 2.0
"""A new leader may not know for a moment how far its log was acknowledged, nor a new broker all topics: a contradiction
is believed when it has lasted for so long."""
FETCH_MS = 5000
ASKING = {"enable_auto_commit": False, "auto_offset_reset": "none", "max_partition_fetch_bytes": 1}
"""Options of a consumer that asks: it fetches as little as a broker gives, and is told at once that an offset is gone."""


class LogView(NamedTuple):
    """What a broker has of a partition now.

    Parameters
    ----------
    end
        End of the log, or an offset before it and behind ``record``; 0 where there is no such topic.
    record
        The record at the offset that was asked for, or the first one behind it; None where there is none.
    """

    end: int
    record: Raw | None


def bookmark_of(record: Raw) -> Bookmark:
    """What to remember of a record, to know its log again."""
    return Bookmark(record.offset, record.timestamp, crc32(record.value or b""))


def bookmark_after(records: list[Raw], before: Bookmark | None) -> Bookmark | None:
    """The bookmark after some records; it never goes back, and not to a record that could not be read whole."""
    last = next((record for record in reversed(records) if not isinstance(record.value, Remains)), None)
    if last is None or (before is not None and last.offset <= before.offset):
        return before
    return bookmark_of(last)


def contradiction(bookmark: Bookmark, view: LogView) -> str | None:
    """What shows that a log is not the one that a bookmark was read from; None where nothing does.

    Examples
    --------
    >>> contradiction(Bookmark(7, 1_700_000_000_000, 1), LogView(7, None))
    'the log ends at offset 7, but the record at offset 7 was read, appended at 2023-11-14T22:13:20+00:00'
    >>> contradiction(Bookmark(7, 1_700_000_000_000, 1), LogView(20, None)) is None
    True
    """
    read = f"appended at {_moment(bookmark.appended_ms)}"
    if bookmark.offset >= view.end:
        return f"the log ends at offset {view.end}, but the record at offset {bookmark.offset} was read, {read}"
    if view.record is None or view.record.offset != bookmark.offset or bookmark_of(view.record) == bookmark:
        return None
    other = f"appended at {_moment(view.record.timestamp)}"
    return f"another record lies at offset {bookmark.offset}, {other}, than was read there, {read}"


def other_log(topic: str, partition: int, what: str) -> OperatorError:
    """The refusal to go on in a log that is not the one that was read."""
    return OperatorError(
        f"topic {topic!r}, partition {partition}: {what}. The topic was deleted and made again, or its log was cut "
        "(unclean leader election): the saved state does not belong to it, and nothing more is read: "
        f"{START_OVER}"
    )


class Lookup:
    """Asks brokers what lies at an offset, beside the worker's own consuming.

    Parameters
    ----------
    consumer
        A started consumer for this alone, without a group and with ``ASKING``.
    contradictions
        Counts, by topic, the times that a log was not the one that was read.
    """

    def __init__(self, consumer: Any, contradictions: Counter) -> None:
        self._consumer, self._contradictions, self._lock = consumer, contradictions, asyncio.Lock()

    async def check(self, topic: str, partition: int, bookmark: Bookmark) -> None:
        """Hold a bookmark against the log; waits for Kafka where that is away.

        Raises
        ------
        OperatorError
            Where the log is another one, and stays so.
        """
        attempts = 0
        while True:
            try:
                what = contradiction(bookmark, await self._view(topic, partition, bookmark.offset))
            except (KafkaError, TimeoutError) as error:
                log.warning(
                    "%s[%d]: no broker tells what lies at offset %d: %r", topic, partition, bookmark.offset, error
                )
            else:
                if what is None:
                    return
                attempts += 1
                log.error("%s[%d]: %s", topic, partition, what)
                self._contradictions.labels(topic).inc()
                if attempts == ATTEMPTS:
                    raise other_log(topic, partition, what)
            await asyncio.sleep(PAUSE_S)

    async def _view(self, topic: str, partition: int, offset: int) -> LogView:
        """One request in nearly every case: the record. Only where none lies there, where the log ends is asked for."""
        place = TopicPartition(topic, partition)
        async with self._lock:
            self._consumer.assign([place])
            self._consumer.seek(place, offset)
            try:
                found = (await self._consumer.getmany(place, timeout_ms=FETCH_MS)).get(place)
            except OffsetOutOfRangeError:
                found = None
            if found:
                return LogView(found[0].offset + 1, found[0])
            if topic not in await self._consumer.topics():
                return LogView(0, None)
            return LogView((await self._consumer.end_offsets([place]))[place], None)


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()
