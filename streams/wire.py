"""Bytes to nouns and back: the only place that knows how records are written."""

from collections.abc import Sequence
from datetime import UTC, datetime
from operator import attrgetter, length_hint
from typing import NamedTuple, Protocol, Self
from urllib.parse import quote

import msgspec
import numpy as np
import orjson

from driftline.detectors.alerts import Alert
from driftline.detectors.arrays import I64
from driftline.detectors.baseline import PREDICTION
from driftline.detectors.errors import RecordError
from driftline.detectors.judging import Verdict
from driftline.detectors.partials import Mark, Partial
from driftline.detectors.records import Batch, PositionalPrediction, Prediction
from driftline.detectors.watch import Watch

SOURCE = "driftline"
LOG_APPEND_TIME = 1
"""Kafka's timestamp type of records whose timestamp is the broker's; 0 is the producer's (CreateTime)."""
MAX_DEAD_LETTER = 1_000_000
"""Bytes; by default producers and brokers refuse what is longer than 1 MiB, headers included."""
_UNUSABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_prediction = msgspec.json.Decoder(Prediction).decode
_positional = msgspec.json.Decoder(PositionalPrediction).decode
_stage_two = msgspec.msgpack.Decoder(Partial | Mark).decode


class Raw(Protocol):
    """What is read of a Kafka record; what `fetching` makes is one."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    value: bytes | None


class Remains(bytes):
    """Stands for a value that can't be read: empty, so that no decoder takes it for one.

    Parameters
    ----------
    reason
        Why the record is rejected.
    first, n_bytes
        What is kept of the value, its first bytes, and how long it was.
    """

    def __new__(cls, reason: str, first: bytes = b"", n_bytes: int = 0) -> Self:
        """Make the empty value."""
        remains = super().__new__(cls)
        remains.reason, remains.first, remains.n_bytes = reason, first, n_bytes
        return remains

    reason: str
    first: bytes
    n_bytes: int


class Outgoing(NamedTuple):
    """One record to be written.

    Parameters
    ----------
    topic
        Field name of ``config.Topics`` or name of a state table, not the topic's own name.
    key, value, headers
        As Kafka has them. An empty value removes a state table's: Kafka gets a tombstone, so that compaction can.
    partition
        None: by the key.
    """

    topic: str
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None


def decode(records: Sequence[Raw], watch: Watch, max_bytes: int) -> tuple[Batch, list[tuple[int, str]]]:
    """Decode one partition's records, at least one, in log order.

    Returns
    -------
    The batch, and (offset, reason) of the records that can't be read.
    """
    predictions: list[Prediction] = []
    rejected: list[tuple[int, str]] = []
    values = [b"" if record.value is None or len(record.value) > max_bytes else record.value for record in records]
    remaining = iter(values)
    while True:
        try:
            predictions.extend(map(_prediction, remaining))  # a loop in C that ends behind the value that can't be read
            break
        except _UNUSABLE as error:
            record = records[len(values) - length_hint(remaining) - 1]
            try:
                predictions.append(_second_look(record.value, max_bytes, error, watch))
            except RecordError as refused:
                rejected.append((record.offset, refused.reason))
    refused_offsets = {offset for offset, _ in rejected}
    kept = [record for record in records if record.offset not in refused_offsets] if rejected else records
    return _timed(records, kept, predictions, rejected), sorted(rejected)


def _timed(
    records: Sequence[Raw], kept: Sequence[Raw], predictions: list[Prediction], rejected: list[tuple[int, str]]
) -> Batch:
    """Give every prediction its event time, and reject those whose time can't be read."""
    appended_ms = np.fromiter(map(attrgetter("timestamp"), kept), np.int64, len(kept))
    log_append = np.fromiter(map(attrgetter("timestamp_type"), kept), np.int64, len(kept)) == LOG_APPEND_TIME
    offsets = np.fromiter(map(attrgetter("offset"), kept), np.int64, len(kept))
    event_ms = event_times([prediction.timestamp for prediction in predictions], appended_ms)
    if (event_ms < 0).any():
        rejected += [(offset, "bad_timestamp") for offset in offsets[event_ms < 0].tolist()]
        sound = (event_ms >= 0).nonzero()[0]
        predictions = [predictions[row] for row in sound.tolist()]
        offsets, event_ms = offsets[sound], event_ms[sound]
        appended_ms, log_append = appended_ms[sound], log_append[sound]
    last = records[-1]
    return Batch(last.topic, last.partition, offsets, event_ms, appended_ms, log_append, predictions, last.offset + 1)


def _reason(error: Exception) -> str:
    """Why bytes can't be decoded, by a closed set of names."""
    if isinstance(error, UnicodeDecodeError):
        return "invalid_utf8"
    if isinstance(error, msgspec.ValidationError):
        return "missing_field" if "missing required field" in str(error) else "invalid_field"
    return "invalid_json"


def _second_look(value: bytes | None, max_bytes: int, error: Exception, watch: Watch) -> Prediction:
    """Read the form of existing loggers: features by position, named in the baseline's order.

    Raises
    ------
    RecordError
        Where the record is of neither form; the reason is then the prediction form's.
    """
    if isinstance(value, Remains):
        raise RecordError(value.reason) from error
    if value is None or len(value) > max_bytes:
        raise RecordError("tombstone" if value is None else "too_large") from error
    if not isinstance(error, msgspec.ValidationError):
        raise RecordError(_reason(error)) from error
    try:
        logged = _positional(value)
    except _UNUSABLE:
        raise RecordError(_reason(error)) from error
    model = logged.model or watch.plan.default_model
    if model is None:
        raise RecordError("missing_field", "model, and plan.default_model is not set")
    layouts = watch.layouts.get((model, logged.model_version))
    if not layouts:
        raise RecordError("unknown_model")
    names = [name for name in layouts[-1].baseline.signals if name != PREDICTION]
    if len(names) != len(logged.input):
        raise RecordError("invalid_field", f"{len(logged.input)} inputs for {len(names)} features")
    features = dict(zip(names, logged.input, strict=True))
    return Prediction(
        model=model,
        version=logged.model_version,
        features=features,
        prediction=logged.output,
        timestamp=logged.timestamp,
        id=logged.id,
    )


def event_times(timestamps: Sequence[float | str | None], appended_ms: I64) -> I64:
    """Event times in milliseconds since the epoch; -1 where they can't be read.

    Examples
    --------
    The unit is told by the magnitude: the same moment in s, ms, us and ns, as text, and the record's own.

    >>> moment = [1_700_000_000, 1_700_000_000_000, 1_700_000_000_000_000, "2023-11-14T22:13:20Z", None, -5]
    >>> event_times(moment, np.full(6, 7)).tolist()
    [1700000000000, 1700000000000, 1700000000000, 1700000000000, 7, -1]
    """
    if set(map(type, timestamps)) == {int}:
        try:
            return _scaled(np.array(timestamps, np.int64))
        except OverflowError:
            pass
    found = np.array(
        [int(own) if stamp is None else _event_time(stamp) for stamp, own in zip(timestamps, appended_ms, strict=True)],
        np.int64,
    )
    return np.where(found < _MS, found, -1)  # a record's own timestamp is its producer's to choose, too


_S, _MS, _US, _TOO_LATE = 10**11, 10**14, 10**17, 2**63
"""Numbers below these are seconds (until the year 5138), milliseconds, microseconds; others are nanoseconds."""


def _scaled(stamps: I64) -> I64:
    """Integers of any unit as milliseconds, rounded down; negative ones as -1."""
    if stamps.min() >= _S and stamps.max() < _MS:
        return stamps
    scaled = np.where(stamps < _S, stamps * 1000, stamps)
    scaled = np.where(stamps >= _MS, stamps // 1000, scaled)
    scaled = np.where(stamps >= _US, stamps // 1_000_000, scaled)
    return np.where(stamps < 0, -1, scaled)


def _event_time(stamp: float | str) -> int:
    """One timestamp as milliseconds, rounded down; -1 where it can't be read."""
    try:
        latest = _TOO_LATE
        if isinstance(stamp, str):
            moment, latest = datetime.fromisoformat(stamp), _S
            stamp = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        if not 0 <= stamp < latest:
            return -1
        if stamp < _S:
            return int(round(stamp * 1000, 3))  # .123 s has no exact double: round before cutting off
        return int(stamp // (1 if stamp < _MS else 1000 if stamp < _US else 1_000_000))
    except (ValueError, OverflowError):
        return -1


def decode_stage_two(value: bytes | None) -> Partial | Mark:
    """Read a record of topic ``partials``.

    Raises
    ------
    RecordError
        For bytes that are neither a partial nor a mark.
    """
    try:
        item: Partial | Mark = _stage_two(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordError("invalid_partial") from error
    return item


def model_key(model: str, version: str) -> bytes:
    """Kafka key of what is about a model version."""
    return f"{model}|{version}".encode()


def partial_record(partial: Partial) -> Outgoing:
    """A partial, keyed so that all partials of a model version meet in one partition."""
    return Outgoing("partials", model_key(partial.model, partial.version), msgspec.msgpack.encode(partial))


def mark_records(mark: Mark, partitions: int) -> list[Outgoing]:
    """A mark, once for every partition of ``partials``."""
    value = msgspec.msgpack.encode(mark)
    return [Outgoing("partials", None, value, partition=partition) for partition in range(partitions)]


def document(value: msgspec.Struct) -> bytes:
    """A struct as JSON with sorted keys: equal values give equal bytes."""
    return orjson.dumps(msgspec.to_builtins(value), option=orjson.OPT_SORT_KEYS)


def verdict_record(verdict: Verdict) -> Outgoing:
    """A verdict for topic ``windows``."""
    return Outgoing("windows", model_key(verdict.model, verdict.version), document(verdict))


def alert_record(alert: Alert) -> Outgoing:
    """An alert with CloudEvents 1.0 headers, binary mode; its time is event time, so a replay repeats it."""
    moment = datetime.fromtimestamp(alert.time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    headers = {
        "ce_specversion": "1.0",
        "ce_id": alert.id,
        "ce_source": f"/{SOURCE}/{quote(alert.model, '')}/{quote(alert.version, '')}",
        "ce_type": f"io.driftline.{alert.kind}.{alert.state}.v1",
        "ce_time": moment.replace("+00:00", "Z"),
        "ce_subject": alert.signal,
        "content-type": "application/json",
    }
    encoded = tuple((name, text.encode()) for name, text in headers.items() if text)
    return Outgoing("alerts", alert.fingerprint.encode(), document(alert), encoded)
