"""Notices a worker that lives but does not work, and ends it so that it is started anew.

aiokafka can stick after a broker restart without any public sign, and a blocked event loop sends heartbeats all the
same, from its other thread. So the only trustworthy sign is progress: offsets that move while there is lag.
"""

import logging
import os
import threading
from collections.abc import Callable, Hashable, Mapping
from time import monotonic
from typing import NamedTuple

log = logging.getLogger(__name__)

EXIT_STUCK = 70
UNREADY_AFTER_S = 15.0
LONGEST_TICK_S = 5.0
"""Of a longer time between two observations only so much counts: the process was paused, or its machine was."""
EXIT_AFTER_S = 45.0
"""Longer than a rebalance may take that waits for a member to come back (30 s); with the stop, less than a minute."""


class Stuck(Exception):  # noqa: N818 - it says what was found, like the others of the tree
    """This worker stands still though Kafka answers; the message says where."""


class Progress(NamedTuple):
    """How far one partition has come.

    Parameters
    ----------
    next_offset, end
        First offset not taken in, and end of the log.
    saved_offset
        Offset of the last checkpoint that was saved.
    waited
        Batches of others that what was fetched of it has waited for. It grows no further once it must have had its turn,
        so that a worker that works is not taken for a stuck one, and a partition that is passed over is seen all the same.
    """

    next_offset: int
    end: int
    saved_offset: int
    waited: int = 0


class Watchdog:
    """Keeps time since each partition last moved.

    Parameters
    ----------
    clock
        Monotonic seconds.

    Examples
    --------
    A partition with lag that has not moved for 30 s makes the worker unready; one without lag may rest.

    >>> second = 0
    >>> dog = Watchdog(lambda: second)
    >>> for second in range(31):
    ...     dog.observe({"a": Progress(5, 9, 5), "b": Progress(9, 9, 9)})
    >>> dog.complaint()
    'a: no progress for 30 s at offset 5 of 9'
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._moved: dict[Hashable, tuple[Progress, float]] = {}
        self._beat = clock()
        self._ran_s = self._excused_s = 0.0

    def observe(self, partitions: Mapping[Hashable, Progress]) -> None:
        """Take in how far every owned partition has come; to be called about once a second by the event loop."""
        before, self._beat = self._beat, self._clock()
        self._ran_s += min(self._beat - before, LONGEST_TICK_S)
        self._moved = {name: (progress, self._since(name, progress)) for name, progress in partitions.items()}

    def _since(self, name: Hashable, progress: Progress) -> float:
        before, since = self._moved.get(name, (None, 0.0))
        return self._ran_s if before is None or _is_moving(before, progress) else since

    def excuse(self) -> None:
        """Hold nothing up to now against this worker: the cause lies outside. It is not ready for that."""
        self._excused_s = self._ran_s

    def stuck_for(self) -> float:
        """Seconds for which the slowest partition has been stuck while this worker ran and had no excuse."""
        return self._ran_s - max(
            self._excused_s, min((since for _, since in self._moved.values()), default=self._ran_s)
        )

    def complaint(self) -> str | None:
        """Why the worker is not ready, if so."""
        slowest = min(self._moved, key=lambda name: self._moved[name][1], default=None)
        if slowest is None:
            return None
        progress, since = self._moved[slowest]
        stood_s = self._ran_s - since
        if stood_s < UNREADY_AFTER_S:
            return None
        return f"{slowest}: no progress for {stood_s:.0f} s at offset {progress.next_offset} of {progress.end}"

    def guard(self) -> threading.Thread:
        """Watch the event loop from a thread of its own; a loop silent for too long ends the process."""
        thread = threading.Thread(target=self._watch, name="driftline-watchdog", daemon=True)
        thread.start()
        return thread

    def _watch(self) -> None:
        pause, beat, silent_s = threading.Event(), self._beat, 0
        while not pause.wait(1.0):
            # Its own seconds: were the whole process paused, this thread might wake up before the loop.
            silent_s = silent_s + 1 if self._beat == beat else 0
            beat = self._beat
            if silent_s >= EXIT_AFTER_S:
                log.critical("the event loop has been blocked for %.0f s: exit %d", EXIT_AFTER_S, EXIT_STUCK)
                os._exit(EXIT_STUCK)


def _is_moving(before: Progress, now: Progress) -> bool:
    """Whether a partition moved or had nothing to do: all consumed, all saved."""
    is_done = now.next_offset >= now.end and now.saved_offset >= now.next_offset
    has_moved = (now.next_offset, now.saved_offset, now.waited) != (
        before.next_offset,
        before.saved_offset,
        before.waited,
    )
    return is_done or has_moved
