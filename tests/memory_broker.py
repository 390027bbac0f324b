"""A broker in memory, behind the pump's two protocols.

Replays and backtests run on it. And because nothing in it happens by itself, whatever can go wrong with a real broker
is an element of the input here: a crash between any two writes, a redelivery, a partition that moves while its old
owner still writes, a log that loses its beginning.
"""

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from operator import attrgetter
from typing import Any, Literal, NamedTuple
from zlib import crc32

from driftline.detectors.documents.bookmark import Bookmark
from driftline.streams.formats.wire import LOG_APPEND_TIME, Outgoing
from driftline.streams.kafka.recreated import LogView, contradiction, other_log

Place = tuple[str, int]
"""Topic and partition."""
Kind = Literal["send", "save", "commit"]


@dataclass(slots=True)
class Record:
    """One record as a consumer gets it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_type: int = LOG_APPEND_TIME


class Write(NamedTuple):
    """One durable write, for those who want to know in which order they came.

    Parameters
    ----------
    kind, topic, partition
        A record sent to, a value saved for, or an offset committed of this partition.
    key
        Of the record or the value.
    offset
        Of the record, or the one committed; -1 for a value.
    """

    kind: Kind
    topic: str
    partition: int
    key: bytes | None
    offset: int


class WorkerDied(Exception):  # noqa: N818 - what happened
    """A crash that the input asked for; the worker's memory is lost with it."""


@dataclass
class Log:
    """One partition: records by ascending offset, from the first that is kept to the end."""

    records: list[Record] = field(default_factory=list)
    start: int = 0
    end: int = 0

    def append(self, record: Record) -> Record:
        """Write a record at the end, where it gets its offset."""
        record.offset = self.end
        self.records.append(record)
        self.end += 1
        return record

    def read(self, offset: int, most: int) -> list[Record]:
        """Records from an offset on, or from the log's start if that lies further on."""
        first = bisect_left(self.records, max(offset, self.start), key=attrgetter("offset"))
        return self.records[first : first + most]

    def truncate(self, start: int) -> None:
        """Lose what lies before an offset, as retention has it."""
        self.start = max(self.start, start)
        self.records = [record for record in self.records if record.offset >= self.start]


@dataclass
class Broker:
    """Topics, changelogs and committed offsets: all that outlives a worker.

    Parameters
    ----------
    sizes
        Topic to its number of partitions.
    """

    sizes: Mapping[str, int]
    logs: dict[Place, Log] = field(init=False)
    saved: dict[Place, dict[bytes, bytes]] = field(default_factory=dict)
    committed: dict[Place, int] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.logs = {(topic, place): Log() for topic, n in self.sizes.items() for place in range(n)}

    def publish(
        self, topic: str, partition: int, values: Iterable[tuple[bytes | None, int]], *, by_broker: bool = True
    ) -> None:
        """Write records, given as value and timestamp, the way a service does; the timestamps are the broker's or its."""
        for value, timestamp in values:
            record = Record(topic, partition, 0, timestamp, value, timestamp_type=int(by_broker))
            self.logs[topic, partition].append(record)

    def records(self, topic: str) -> list[Record]:
        """All records of a topic, partition by partition."""
        return [record for place in range(self.sizes[topic]) for record in self.logs[topic, place].records]


class Session:
    """One worker's life at the broker: every write of its sink and stores goes through here."""

    def __init__(self, broker: Broker) -> None:
        self.broker, self.is_alive = broker, True
        self._writes_left = inf

    def crash(self, after: float) -> None:
        """Die once so many more writes have landed; never, if that is infinite."""
        self._writes_left = after

    def write(self, kind: Kind, place: Place, key: bytes | None, land: Callable[[], int]) -> None:
        """Let one write land, unless the worker dies before it."""
        self.is_alive = self.is_alive and self._writes_left > 0
        if not self.is_alive:
            raise WorkerDied
        self._writes_left -= 1
        self.broker.writes.append(Write(kind, *place, key, land()))


class MemorySink:
    """A worker's producer. Like a real one it keeps records back and writes a partition's in their order."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: dict[Place, list[Outgoing]] = {}

    async def send(self, record: Outgoing) -> Awaitable[None]:
        """Start to write; whoever waits for the result has all that waits for the same partition written."""
        n = self._session.broker.sizes[record.topic]
        partition = crc32(record.key or record.value) % n if record.partition is None else record.partition
        place = record.topic, partition
        self._waiting.setdefault(place, []).append(record)
        return _Acknowledgement(self, place)

    def flush(self) -> None:
        """Write all that waits."""
        for place in list(self._waiting):
            self.land(place)

    def land(self, place: Place) -> None:
        """Write what waits for a partition."""
        waiting, log = self._waiting.get(place, []), self._session.broker.logs[place]
        while waiting:
            _, key, value, headers, _ = waiting[0]
            record = Record(*place, 0, 0, value, key, headers)
            self._session.write("send", place, key, lambda record=record: log.append(record).offset)  # type: ignore[misc]
            waiting.pop(0)


@dataclass(frozen=True)
class _Acknowledgement:
    sink: MemorySink
    place: Place

    def __await__(self) -> Generator[Any, None, None]:
        self.sink.land(self.place)
        yield from ()


class MemoryStore:
    """A worker's consumer of one topic, and its states' changelog."""

    def __init__(self, session: Session, topic: str) -> None:
        self._session, self._broker, self.topic = session, session.broker, topic
        self.positions: dict[int, int] = {}

    def poll(self, partition: int, most: int) -> list[Record]:
        """Records from the position on, which moves behind them; it begins at the committed offset."""
        position = self.positions.get(partition, self._broker.committed.get((self.topic, partition), 0))
        found = self._broker.logs[self.topic, partition].read(position, most)
        self.positions[partition] = found[-1].offset + 1 if found else position
        return found

    def load(self, partition: int) -> dict[bytes, bytes]:
        """The saved values of a partition."""
        return dict(self._broker.saved.get((self.topic, partition), {}))

    async def save(self, partition: int, values: Iterable[tuple[bytes, bytes]]) -> None:
        """Write values in this order, of which an empty one removes."""
        place = self.topic, partition
        for key, value in values:
            self._session.write("save", place, key, lambda key=key, value=value: self._keep(place, key, value))  # type: ignore[misc]

    def _keep(self, place: Place, key: bytes, value: bytes) -> int:
        saved = self._broker.saved.setdefault(place, {})
        saved[key] = value
        if not value:
            del saved[key]
        return -1

    async def commit(self, partition: int, next_offset: int) -> bool:
        """Say where reading would start without a state."""

        def land() -> int:
            self._broker.committed[self.topic, partition] = next_offset
            return next_offset

        self._session.write("commit", (self.topic, partition), None, land)
        return True

    async def seek(self, partition: int, offset: int) -> None:
        """Go on reading there."""
        self.positions[partition] = offset

    def position(self, partition: int) -> int:
        """Offset of the next record that would be handed over."""
        return self.positions.get(partition, 0)

    def is_fetched(self, partition: int) -> bool:  # noqa: ARG002 - the same for all
        """Nothing is fetched before it is polled."""
        return False

    async def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        """Ends of logs now."""
        return {partition: self._broker.logs[self.topic, partition].end for partition in partitions}

    async def check(self, partition: int, bookmark: Bookmark) -> None:
        """See that the log is the one that a bookmark was read from."""
        log = self._broker.logs[self.topic, partition]
        found = next(iter(log.read(bookmark.offset, 1)), None)
        what = contradiction(bookmark, LogView(log.end, found))
        if what is not None:
            raise other_log(self.topic, partition, what)

    async def log_start(self, partition: int) -> int:
        """First offset that the log still has."""
        return self._broker.logs[self.topic, partition].start
