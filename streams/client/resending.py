"""Publish dead letters again after their cause is mended: each once, whatever happens on the way.

The books are kept beside the letters, on their own topic. A resending first writes where the predictions end; then it
sends some letters, waits for the acknowledgements and writes which they were; at last it writes that it is through. One
that ended in between is made up for by looking for its records behind the offsets that it began with.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from driftline.streams.client.times import event_ms, watermark_ms
from driftline.streams.formats.letters import RESEND, RESENT_FROM, Letter, letter_of
from driftline.streams.kafka.connection import KafkaUnreachable, opened
from driftline.streams.kafka.reader import RecordReader
from driftline.streams.terminal import progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable

    from driftline.streams.config.settings import Settings

Place = tuple[int, int]
CHUNK = 500
"""Letters between two entries in the books."""
BOOKS = 0
"""Partition of the books: entries must keep their order."""
ACKNOWLEDGED_TIMEOUT_S = 60.0
FETCH_MS = 5_000
"""For a record that may not be there: compaction or a transaction's end leaves offsets without one."""


class Entry(msgspec.Struct, tag_field="entry"):
    """What the books hold."""


class Begun(Entry, tag="begun"):
    """A resending begins; the predictions end at these offsets, by partition."""

    ends: dict[int, int]


class Sent(Entry, tag="sent"):
    """Letters at these places are acknowledged."""

    places: list[Place]


class Ended(Entry, tag="ended"):
    """A resending is through."""


_entry = msgspec.json.Decoder(Begun | Sent | Ended).decode


class Original(NamedTuple):
    """A rejected record."""

    value: bytes
    key: bytes | None
    headers: list[tuple[str, bytes]]


class Found(NamedTuple):
    """What a resending would do.

    Parameters
    ----------
    due
        Places of the letters to be sent.
    resent
        Letters that were sent before.
    late
        Of those due, how many have an event time whose window is closed by now.
    lost
        Letters that do not hold their whole record, and redacted ones whose record is gone.
    unbooked
        Letters that a resending sent and did not come to note.
    """

    due: list[Place]
    resent: int
    late: int
    lost: int
    unbooked: list[Place]

    def sentences(self) -> list[str]:
        """For people."""
        said = [f"{len(self.due)} dead letters can be sent to the predictions again"]
        if self.late:
            said.append(f"{self.late} of them are of windows that are closed: they will be counted as late")
        if self.resent:
            said.append(f"{self.resent} were sent again before and are left alone")
        if self.lost:
            said.append(
                f"{self.lost} hold no whole record (empty, cut off for their size, or redacted and gone from the predictions) and are left alone"
            )
        return said


class Resending:
    """One resending.

    Parameters
    ----------
    settings
        Where Kafka is and how the topics are called.
    reasons
        Reasons of the letters that are sent; empty for all.
    """

    def __init__(self, settings: Settings, reasons: frozenset[str] = frozenset()) -> None:
        self._settings, self._reasons = settings, reasons

    async def look(self) -> Found:
        """Read all letters and the books; nothing is sent."""
        closed_ms, window_ms = await watermark_ms(self._settings), self._settings.plan.window_ms
        booked, unbooked = await self._resent()
        resent = booked | unbooked
        due: list[Place] = []
        n_resent = late = lost = 0
        async for letters in self._chunks("looking through the dead letters"):
            n_resent += sum(letter.place in resent for letter in letters)
            chosen = [letter for letter in letters if letter.place not in resent]
            originals = await self._originals([letter for letter in chosen if letter.redacted])
            for letter in chosen:
                value = originals[letter.place].value if letter.place in originals else letter.value
                if not value or not (letter.redacted or letter.is_whole):
                    lost += 1
                    continue
                due.append(letter.place)
                happened_ms = event_ms(value)
                late += happened_ms is not None and (happened_ms // window_ms + 1) * window_ms <= closed_ms
        return Found(due, n_resent, late, lost, sorted(unbooked - booked))

    async def send(self, found: Found) -> int:
        """Send the letters that were found; return how many are acknowledged."""
        options: dict[str, Any] = {"enable_idempotence": True}
        due, sent = set(found.due), 0
        async with opened(AIOKafkaProducer, self._settings.kafka, **options) as producer:
            await self._note(producer, Sent(found.unbooked))
            await self._note(producer, Begun(await self._ends()))
            async for letters in self._chunks("sending", due):
                sent += await self._send(producer, letters)
            await self._note(producer, Ended())
        return sent

    async def _send(self, producer: Any, letters: list[Letter]) -> int:
        """Send some letters and note them."""
        originals = await self._originals(letters)
        records = {
            letter.place: originals.get(letter.place, Original(letter.value, None, []))
            for letter in letters
            if letter.place in originals or not letter.redacted
        }
        acknowledged = []
        for place, (value, key, headers) in records.items():
            source = "{}/{}".format(*place).encode()
            acknowledged.append(
                await producer.send(
                    self._settings.topics.predictions, value, key, headers=[*headers, (RESENT_FROM, source)]
                )
            )
        await self._settled(acknowledged)
        await self._note(producer, Sent(list(records)))
        return len(records)

    async def _note(self, producer: Any, entry: Entry) -> None:
        value = msgspec.json.encode(entry)
        topic, headers = self._settings.topics.dead_letters, [(RESEND, b"1")]
        await self._settled([await producer.send(topic, value, partition=BOOKS, headers=headers)])

    async def _settled(self, acknowledged: Iterable[Any]) -> None:
        try:
            async with asyncio.timeout(ACKNOWLEDGED_TIMEOUT_S):
                await asyncio.gather(*acknowledged)
        except TimeoutError as error:
            raise KafkaUnreachable(
                f"Kafka acknowledged nothing for {ACKNOWLEDGED_TIMEOUT_S:g} s; call again: what was sent is not sent twice"
            ) from error

    async def _chunks(self, label: str, due: Collection[Place] | None = None) -> AsyncIterator[list[Letter]]:
        """All letters of the chosen reasons, or those of them that are due, so many at once."""
        chunk: list[Letter] = []
        async for letter in self._letters(label):
            if due is None or letter.place in due:
                chunk.append(letter)
            if len(chunk) == CHUNK:
                yield chunk
                chunk = []
        yield chunk

    async def _letters(self, label: str) -> AsyncIterator[Letter]:
        """All letters of the chosen reasons."""
        topic = self._settings.topics.dead_letters
        async with RecordReader(self._settings.kafka, topic, "beginning", "end") as reader:
            with progress(label, reader.size) as advance:
                async for record in reader:
                    advance()
                    letter = letter_of(record)
                    if letter is not None and (not self._reasons or letter.reason in self._reasons):
                        yield letter

    async def _resent(self) -> tuple[set[Place], set[Place]]:
        """Places of the letters that were sent before: those that were noted, and those of an interrupted resending."""
        known: set[Place] = set()
        last: Begun | Ended = Ended()
        async with RecordReader(self._settings.kafka, self._settings.topics.dead_letters, "beginning", "end") as reader:
            async for record in reader:
                if RESEND not in dict(record.headers):
                    continue
                try:
                    entry = _entry(record.value or b"")
                except (msgspec.DecodeError, UnicodeDecodeError):  # whoever may write to the topic may write this, too
                    continue
                if isinstance(entry, Sent):
                    known |= set(map(tuple, entry.places))  # type: ignore[arg-type]
                else:
                    last = entry
        return known, await self._sent_behind(last.ends) if isinstance(last, Begun) else set()

    async def _sent_behind(self, starts: dict[int, int]) -> set[Place]:
        """Letters that lie among the predictions from these offsets on."""
        found: set[Place] = set()
        async with RecordReader(self._settings.kafka, self._settings.topics.predictions, "beginning", "end") as reader:
            reader.seek(starts)
            async for record in reader:
                if source := dict(record.headers).get(RESENT_FROM):
                    partition, _, offset = source.decode().partition("/")
                    found.add((int(partition), int(offset)))
        return found

    async def _ends(self) -> dict[int, int]:
        async with RecordReader(self._settings.kafka, self._settings.topics.predictions, "end", "end") as reader:
            return reader.ends

    async def _originals(self, letters: Iterable[Letter]) -> dict[Place, Original]:
        """The rejected records, where the predictions still have them."""
        predictions = self._settings.topics.predictions
        by_place = {(each.partition, each.offset): each for each in letters if each.topic == predictions}
        found: dict[Place, Original] = {}
        if not by_place:
            return found
        async with opened(AIOKafkaConsumer, self._settings.kafka, max_partition_fetch_bytes=2**16) as consumer:
            places = [TopicPartition(predictions, each) for each in sorted({partition for partition, _ in by_place})]
            begins, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
            for place in places:
                consumer.assign([place])
                for offset in sorted(offset for partition, offset in by_place if partition == place.partition):
                    if not begins[place] <= offset < ends[place]:
                        continue
                    if await consumer.position(place) != offset:
                        consumer.seek(place, offset)
                    letter = by_place[place.partition, offset]
                    for record in (await consumer.getmany(place, timeout_ms=FETCH_MS, max_records=1)).get(place, ()):
                        if record.offset == offset and _is_original(record, letter):
                            found[letter.place] = Original(record.value, record.key, list(record.headers))
        return found


def _is_original(record: Any, letter: Letter) -> bool:
    """Whether a record at a letter's origin is the rejected one: the topic may have been made anew."""
    if letter.redacted:
        return bool(record.value) and (len(record.value), record.timestamp) == (letter.size, letter.written_ms)
    return bool(record.value == letter.value)
