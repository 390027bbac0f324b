"""Event times and watermarks as commands need them: read from the topics, without a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from driftline.detectors.documents.partials import Mark
from driftline.detectors.errors import RecordError
from driftline.streams.formats.event_times import event_times
from driftline.streams.formats.wire import decode_stage_two
from driftline.streams.kafka.reader import RecordReader

if TYPE_CHECKING:
    from driftline.streams.config.settings import Settings

RECENT_MARKS = 2_000
"""Records of a partition of `partials` among which every input partition's newest mark is looked for."""


class _Stamped(msgspec.Struct):
    timestamp: Any = None


def event_ms(value: bytes) -> int | None:
    """Return the event time of a prediction's bytes; None where they tell none that can be read.

    Examples
    --------
    >>> event_ms(b'{"timestamp": 1700000000}'), event_ms(b'{"timestamp": "soon"}'), event_ms(b"{")
    (1700000000000, None, None)
    """
    try:
        stamp = msgspec.json.decode(value, type=_Stamped).timestamp
        (found,) = event_times([stamp], np.array([-1])).tolist()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError, ValueError):
        return None
    return int(found) if found >= 0 else None


async def marks(settings: Settings) -> dict[int, Mark]:
    """Return the newest mark of each partition of the predictions."""
    found: dict[int, Mark] = {}
    async with RecordReader(settings.kafka, settings.topics.partials, RECENT_MARKS, "end") as reader:
        async for record in reader:
            try:
                item = decode_stage_two(record.value)
            except RecordError:
                continue
            if isinstance(item, Mark):
                known = found.get(item.partition)
                found[item.partition] = item if known is None or item.closed_ms >= known.closed_ms else known
    return found


async def watermark_ms(settings: Settings) -> int:
    """Return the event time up to which some partition has closed its windows; 0 where nothing tells."""
    return max((mark.closed_ms for mark in (await marks(settings)).values()), default=0)
