"""What libraries say again and again: while Kafka is away aiokafka writes 150 lines a second."""

import logging

EVERY_S = 10.0
LIBRARIES = frozenset({"aiokafka", "faust", "mode"})
MOST = 1_000


class Repeats(logging.Filter):
    """Lets each message of a library through once in so many seconds, and says then how many were left out.

    Messages are told apart by their logger and their text before arguments are filled in.

    Examples
    --------
    >>> repeats = Repeats()
    >>> def said(at_s):
    ...     record = logging.LogRecord("aiokafka", logging.ERROR, "", 0, "node %d is away", (1,), None)
    ...     record.created = at_s
    ...     return repeats.filter(record) and record.getMessage()
    >>> said(0.0), said(1.0), said(2.0), said(10.0)
    ('node 1 is away', False, False, 'node 1 is away (and 2 more like it)')
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write it."""
        if record.name.partition(".")[0] not in LIBRARIES:
            return True
        key = record.name, str(record.msg)
        since_s, left_out = self._seen.get(key, (-EVERY_S, 0))
        if record.created - since_s < EVERY_S:
            self._seen[key] = since_s, left_out + 1
            return False
        if len(self._seen) >= MOST:
            self._seen.clear()
        self._seen[key] = record.created, 0
        if left_out:
            record.msg = f"{record.msg} (and {left_out} more like it)"
        return True
