"""Flush marks: records by which a publisher says that a file of predictions is over, so that its last windows close.

A mark lies in the log like any other record, one on every partition, so live and replay read the same. It is JSON that
is no prediction; whoever reads features finds none in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from driftline.detectors.documents.predictions import Flush

if TYPE_CHECKING:
    from driftline.streams.formats.wire import Raw


class FlushMark(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="driftline", tag="flush"):
    """A flush mark as it is written.

    Parameters
    ----------
    event_ms
        The latest event time of what was published, milliseconds since the epoch.

    Examples
    --------
    >>> msgspec.json.encode(FlushMark(1_700_000_000_000))
    b'{"driftline":"flush","event_ms":1700000000000}'
    """

    event_ms: int


_decode = msgspec.json.Decoder(FlushMark).decode
_MOST_BYTES = 100
_MOST_MS = 10**14
"""As for predictions: what is larger is no time in milliseconds."""


def flush_of(record: Raw) -> Flush | None:
    """The flush mark that a record is, if it is one.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> flush_of(SimpleNamespace(offset=7, timestamp=1000, value=b'{"driftline": "flush", "event_ms": 900}'))
    Flush(offset=7, appended_ms=1000, event_ms=900, log_append=True)
    """
    if not record.value or len(record.value) > _MOST_BYTES or b'"flush"' not in record.value:
        return None
    try:
        event_ms = _decode(record.value).event_ms
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Flush(record.offset, record.timestamp, event_ms) if 0 <= event_ms < _MOST_MS else None
