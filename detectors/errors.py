"""Errors that say whose fault it is.

::

    DriftlineError
    ├── RecordError       the record's: it becomes a dead letter, is counted, and the stream goes on
    ├── OperatorError     the operator's: refuse to start, naming the key, the value and the remedy
    │   ├── Misfit        a value that does not fit its key
    │   └── UnknownFormat a document of a format that this version does not know
    └── DamagedState      a snapshot that is foreign, truncated or flipped: the cell is rebuilt

Whatever is ours is an ordinary exception and crashes loudly.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

START_OVER = (
    "stop all workers and start over from the log: `driftline reset`, with the workers' --app-id if they have one"
)
"""The remedy where a saved state does not fit."""
BUILD_BASELINE = "`driftline baseline build FILE --model NAME --version NAME --out FILE`"
"""How a baseline is made."""

NOTHING = object()
"""Stands for a value where there is none; None is one."""


class DriftlineError(Exception):
    """Root of every error that driftline raises on purpose."""


class RecordError(DriftlineError):
    """One record can't be used.

    Parameters
    ----------
    reason
        Short snake-case name; of a prediction record one of ``REASONS``. It becomes a metric label and a header.
    detail
        What was seen, without the payload.
    field
        Which field is at fault, where it is one.
    found
        What the field holds, as it is: whoever shows it has to bound it. ``NOTHING`` where there is nothing to show.
    wanted
        What would be right.
    """

    def __init__(
        self, reason: str, detail: str = "", *, field: str = "", found: object = NOTHING, wanted: str = ""
    ) -> None:
        super().__init__(": ".join(filter(None, (reason, field, detail, wanted and f"wanted {wanted}"))))
        self.reason = reason
        self.detail = detail
        self.field = field
        self.found = found
        self.wanted = wanted


class OperatorError(DriftlineError):
    """The configuration or the surroundings are wrong; the message names the remedy."""


class Misfit(OperatorError):  # noqa: N818 - named for what was met
    """A value that does not fit its key.

    Parameters
    ----------
    path
        The key, with the tables it stands in.
    value
        What stands there.
    reason
        What is wrong with it.
    """

    def __init__(self, path: tuple[str, ...], value: Any, reason: str) -> None:
        super().__init__(f"{'.'.join(path)} = {value!r}: {reason}")
        self.path, self.value, self.reason = path, value, reason


class UnknownFormat(OperatorError):  # noqa: N818 - named for what was met, as in the tree above
    """A document or a state of a format that this version does not know."""


class DamagedState(DriftlineError):  # noqa: N818 - likewise
    """Bytes of a snapshot that can't be trusted."""


REASONS: Mapping[str, str] = MappingProxyType(
    {
        "tombstone": "The record has no value.",
        "too_large": "The value is longer than `worker.max_record_bytes`; the dead letter holds its beginning.",
        "batch_too_large": "The record's batch would unpack to more than `worker.max_batch_bytes`; the dead letter is empty.",
        "batch_corrupt": "The record's batch can't be read: a wrong checksum, bytes that do not unpack, "
        "a header that is no text; the dead letter is empty.",
        "unsupported_format": "Another format, which the header `wanted` names: a frame of a schema registry, compressed "
        "bytes, UTF-16, Avro, MessagePack, or an envelope like those of Debezium, CloudEvents and KServe.",
        "invalid_json": "Not JSON: cut short, empty, half of a surrogate pair, too deeply nested.",
        "invalid_utf8": "Bytes that are not UTF-8.",
        "missing_field": "`model`, `version`, `features` or `prediction` is absent; or `model` in the positional form "
        "while `plan.default_model` is not set.",
        "invalid_field": "One of these is of the wrong type, the record is no JSON object at all, or it has another number "
        "of inputs than the baseline in force has features.",
        "bad_timestamp": "A timestamp that is negative, beyond the year 5138, or in none of the forms below.",
        "ahead": "An event time further ahead of the record's own Kafka timestamp than `plan.max_ahead_ms`.",
        "bad_name": "A model or version that is empty, longer than 128 characters, or has unprintable characters or `|`.",
        "unknown_model": "No baseline has been published for this model and version.",
        "no_baseline_yet": "The window begins before the first baseline of this model version becomes effective.",
    }
)
"""Why a prediction record can't be used: the whole set, with what each means."""
