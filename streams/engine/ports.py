"""The seams of the pump: where outputs go, where states are kept, and what a stage is.

A real broker, Faust's tables and the two stages stand behind them, and so does the in-memory broker of the tests.
"""

from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from driftline.detectors.documents.bookmark import Bookmark
from driftline.detectors.errors import DamagedState
from driftline.streams.formats.wire import Outgoing, Raw


class State(Protocol):
    """What the pump needs to know of a state."""

    next_offset: int
    bookmark: Bookmark | None


S = TypeVar("S", bound=State)
SETTLING_S = 5.0
"""Seconds within which a record that was appended can be read, and by which brokers' clocks differ, together at most."""


class Sink(Protocol):
    """Where outputs go."""

    async def send(self, record: Outgoing) -> Awaitable[object]:
        """Start to write a record, after those that were sent before; the result is its acknowledgement."""
        ...


class Store(Protocol):
    """Where a stage's states and committed offsets are kept, and where its reading can be moved."""

    @property
    def topic(self) -> str:
        """The topic that the stage reads."""
        ...

    def load(self, partition: int) -> Mapping[bytes, bytes]:
        """The saved values of a partition."""
        ...

    async def save(self, partition: int, values: Iterable[tuple[bytes, bytes]]) -> None:
        """Write values in this order, of which an empty one removes; return when all are acknowledged."""
        ...

    async def commit(self, partition: int, next_offset: int) -> bool:
        """Say where reading would start without a state; false where that was refused, for now."""
        ...

    async def seek(self, partition: int, offset: int) -> None:
        """Go on reading there."""
        ...

    def position(self, partition: int) -> int:
        """Offset of the next record that would be handed over; 0 where that is not known yet."""
        ...

    def is_fetched(self, partition: int) -> bool:
        """Whether records lie here that a poll has not yet handed over."""
        ...

    async def ends(self, partitions: Iterable[int]) -> Mapping[int, int]:
        """Ends of logs, asked for after the call; those that no broker tells now are left out."""
        ...

    async def check(self, partition: int, bookmark: Bookmark) -> None:
        """See that the log is the one that a bookmark was read from.

        Raises
        ------
        OperatorError
            Where it is another one.
        """
        ...

    async def log_start(self, partition: int) -> int:
        """First offset that the log still has."""
        ...


class Stage(Protocol[S]):
    """One of the two stages: how to restore, advance and dump a state."""

    def restore(self, partition: int, saved: Mapping[bytes, bytes]) -> tuple[S, Mapping[bytes, DamagedState]]:
        """State from saved values, and by key what was damaged."""
        ...

    def step(self, state: S, records: Sequence[Raw]) -> tuple[S, list[Outgoing]]:
        """Take in records of one partition."""
        ...

    def used_upto(self, state: S) -> int:
        """Offset after the last record that counted: one that is rejected does not end a silence."""
        ...

    def is_due(self, state: S) -> bool:
        """Whether a step has something to say though no records came."""
        ...

    def idle(self, state: S) -> list[Outgoing]:
        """What to send when the partition has been silent for a while."""
        ...

    def appended_ms(self) -> int:
        """Return the highest append time of a log that this worker has read or learnt from another stage."""
        ...

    def idle_through(self, state: S, through_ms: int) -> list[Outgoing]:
        """What to send when nothing was appended behind an idle state up to an append time."""
        ...

    def dump(self, state: S) -> Iterator[tuple[bytes, bytes]]:
        """Values to save, the partition's own last."""
        ...

    def gap(self, lost: int) -> None:
        """Be told that the log lacks so many offsets that the state had not seen."""
        ...

    def released(self, state: S) -> None:
        """Be told that another worker may own this state's partition from now on."""
        ...
