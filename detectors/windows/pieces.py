"""A batch of usable records, cut where the partition was silent; and what the batch's mark will say."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from driftline.detectors.arrays import I64
from driftline.detectors.documents.partials import Closed, Mark
from driftline.detectors.documents.predictions import Batch
from driftline.detectors.layout.watch import ModelKey
from driftline.detectors.plan import Plan
from driftline.detectors.windows.silence import Clock, ends_of_stands, silences


@dataclass(frozen=True, slots=True)
class Piece:
    """Usable records of a batch between two moments at which the partition may have been idle: their places in it and the append times up to each.

    ``codes`` says which of the model versions ``keys`` each belongs to.
    """

    places: I64
    codes: I64
    keys: list[ModelKey]
    clock_ms: I64
    is_after_silence: bool = False

    def cut(self, batch: Batch, clock: Clock, plan: Plan) -> Iterator["Piece"]:
        """Cut where the partition was idle or may have been, given the append time before the first record too."""
        by_broker = batch.log_append[self.places]
        silent = set(silences(self.clock_ms, by_broker, plan.idle_after_ms).tolist())
        stands = ends_of_stands(self.clock_ms, by_broker, clock, plan).tolist()
        for start, stop in pairwise([*sorted({0, *silent, *stands}), self.places.size]):
            clock_ms = self.clock_ms[start + 1 : stop + 1]
            yield Piece(self.places[start:stop], self.codes[start:stop], self.keys, clock_ms, start in silent)

    def uncut(self) -> "Piece":
        """All of it in one."""
        return replace(self, clock_ms=self.clock_ms[1:])

    def clock_after(self, clock: Clock, batch: Batch, window_ms: int) -> Clock:
        """The partition's clock after these records."""
        if not self.places.size:
            return clock
        last = self.places[-1]
        appended_ms, by_broker = int(self.clock_ms[-1]), bool(batch.log_append[last])
        stood = clock.passed(self.clock_ms, window_ms)
        return Clock(appended_ms, by_broker, int(batch.offsets[last]) + 1, clock.silences, clock.since_ms, stood)


@dataclass(frozen=True, slots=True)
class Closing:
    """Where in a batch the watermark passed which window ends: running highest event and append times, and offsets."""

    highest_ms: I64
    clock_ms: I64
    offsets: I64

    def row(self, due_ms: int) -> int:
        """The first record at which the highest event time reached a moment."""
        return int(self.highest_ms.searchsorted(due_ms))


@dataclass(slots=True)
class Facts:
    """What a batch's mark will say."""

    closings: list[Closed] = field(default_factory=list)
    idle_spans: list[tuple[int, int]] = field(default_factory=list)

    def mark(self, partition: int, partitions: int, closed_ms: int, clock: Clock) -> Mark | None:
        """The mark; None where there is nothing to say."""
        if not self.closings and not self.idle_spans:
            return None
        facts = tuple(self.closings), tuple(self.idle_spans)
        return Mark(partition, partitions, closed_ms, False, clock.through_ms, *facts)  # noqa: FBT003 - it is not idle
