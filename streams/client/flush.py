"""Closing the windows of what was published, where no later record will: see ``flush_mark``."""

from __future__ import annotations

from itertools import islice
from time import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from driftline.streams.formats.event_times import event_times
from driftline.streams.formats.flush_mark import FlushMark

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from driftline.streams.kafka.outbox import Outbox

AT_ONCE = 500
"""Documents whose times are read together."""


class Latest:
    """The latest event time of documents that pass, as a worker will read it.

    Parameters
    ----------
    max_ahead_ms
        What is further ahead of the clock will be rejected, and does not count.

    Attributes
    ----------
    event_ms : int
        That time, milliseconds since the epoch; 0 before any document has passed.

    Examples
    --------
    >>> latest = Latest(60_000)
    >>> documents = [{"timestamp": 1_700_000_000}, {"timestamp": "2100-01-01T00:00:00Z"}, {"timestamp": 1_600_000_000}]
    >>> len(list(latest.passing(documents))), latest.event_ms
    (3, 1700000000000)
    """

    def __init__(self, max_ahead_ms: int) -> None:
        self._max_ahead_ms = max_ahead_ms
        self.event_ms = 0

    def passing(self, documents: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Hand documents on, one by one."""
        remaining = iter(documents)
        while some := list(islice(remaining, AT_ONCE)):
            now_ms = int(time() * 1000)
            times = event_times([each.get("timestamp") for each in some], np.full(len(some), now_ms))
            self.event_ms = max(self.event_ms, *times[times <= now_ms + self._max_ahead_ms].tolist(), 0)
            yield from some


async def flush(outbox: Outbox, event_ms: int) -> None:
    """Write a flush mark to every partition of an outbox's topic, behind all that the outbox has sent.

    Parameters
    ----------
    outbox
        What the records went through; they are acknowledged first, so that each partition's mark lies behind them.
    event_ms
        The latest event time of those records.

    Raises
    ------
    KafkaUnreachable
        Where records or marks were given up because Kafka did not answer.
    OperatorError
        Where Kafka refused them.
    """
    await outbox.flush()
    value = msgspec.json.encode(FlushMark(event_ms))
    for partition in outbox.partitions:
        await outbox.send(value, partition=partition)
    await outbox.flush()
