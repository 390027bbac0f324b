"""How long a partition may have to wait for its turn: its worker takes batches of all partitions one after the other."""

from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager

QUEUE_BATCHES = 2
"""Batches that Faust may hold in its queue for a stage."""
REST_S = 2.0
"""Seconds without a batch after which nothing can be on its way any more."""


class Turns:
    """Batches that the pumps of one worker have taken: what a poll brings of all their partitions waits in one line.

    Parameters
    ----------
    clock
        Monotonic seconds.
    polls
        After how many polls what one fetch has brought of a partition is used up, at most.
    """

    def __init__(self, clock: Callable[[], float], polls: int = 2) -> None:
        self.clock, self._polls = clock, polls
        self.taken = 0
        self._busy, self._ended_at = 0, clock()
        self._held: list[Sized] = []

    def join(self, held: Sized) -> None:
        """Reckon with one more pump, which holds these partitions."""
        self._held.append(held)

    @contextmanager
    def next(self) -> Iterator[None]:
        """Take a batch; several pumps may do so at the same time."""
        self._busy += 1
        self.taken += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._ended_at = self.clock()

    def is_in_queue(self, since: int) -> bool:
        """Whether, after so many batches, something may still lie in the queues, or in two polls behind them.

        It may not where no batch is being taken, nor was for a while.
        """
        is_resting = not self._busy and self.clock() - self._ended_at >= REST_S
        return not is_resting and self.taken - since <= self._batches(2)

    def waited(self, since: int) -> int:
        """Batches for which what was fetched of a partition may have waited, which was taken when there had been so many.

        It grows no further once the partition has had its turn.
        """
        return min(self.taken - since, self._batches(self._polls))

    def _batches(self, polls: int) -> int:
        return sum(QUEUE_BATCHES + polls * len(held) for held in self._held)
