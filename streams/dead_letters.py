"""Records that could not be used, written to a topic of their own, though not without bound."""

from collections.abc import Callable, Iterator, Sequence
from math import inf
from time import monotonic

from driftline.streams.wire import MAX_DEAD_LETTER, Outgoing, Raw, Remains


class Allowance:
    """So much per minute, refilled evenly; a minute's worth may be taken at once.

    Parameters
    ----------
    per_minute
        How much.
    clock
        Monotonic seconds.

    Examples
    --------
    Of 60 a minute, 60 may go at once, and one more each second.

    >>> now = 0.0
    >>> allowance = Allowance(60, lambda: now)
    >>> allowance.take(100)
    60
    >>> now = 2.5
    >>> allowance.take(100), allowance.take(100)
    (2, 0)
    """

    def __init__(self, per_minute: float = inf, clock: Callable[[], float] = monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._left, self._at_s = per_minute, clock()

    def take(self, n: int) -> int:
        """How many of n are allowed now."""
        now_s = self._clock()
        self._left = min(self._per_minute, self._left + (now_s - self._at_s) * self._per_minute / 60)
        self._at_s = now_s
        taken = int(min(n, self._left))
        self._left -= taken
        return taken


def dead_letters(records: Sequence[Raw], rejected: Sequence[tuple[int, str]]) -> Iterator[Outgoing]:
    """Dead letters of the records at these offsets, given with their reasons."""
    if rejected:
        by_offset = {record.offset: record for record in records}
        for offset, reason in rejected:
            yield dead_letter(by_offset[offset], reason)


def dead_letter(record: Raw, reason: str) -> Outgoing:
    """A record that could not be used, as it was, with what was wrong and where it lay.

    One that Kafka would refuse in one piece is cut off; a header then says how long it was.
    """
    value = b"" if record.value is None else record.value
    first, n_bytes = (value.first, value.n_bytes) if isinstance(value, Remains) else (value, len(value))
    headers = {"reason": reason, "topic": record.topic, "partition": record.partition, "offset": record.offset}
    if n_bytes > MAX_DEAD_LETTER:
        headers["size"] = n_bytes
    encoded = tuple((name, str(text).encode()) for name, text in headers.items())
    return Outgoing("dead_letters", None, first[:MAX_DEAD_LETTER], encoded)
