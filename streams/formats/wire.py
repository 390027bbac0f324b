"""Bytes to nouns and back: the only place that knows how records are written."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from operator import attrgetter, length_hint
from typing import NamedTuple, Protocol, Self
from urllib.parse import quote

import msgspec
import numpy as np
import orjson

from driftline.detectors.documents.alerts import Alert
from driftline.detectors.documents.partials import Mark, Partial
from driftline.detectors.documents.predictions import Batch, Flush, PositionalPrediction, Prediction
from driftline.detectors.errors import RecordError
from driftline.detectors.layout.watch import Watch
from driftline.detectors.verdicts.decide import Verdict
from driftline.streams.formats.event_times import event_time, event_times
from driftline.streams.formats.flush_mark import flush_of
from driftline.streams.formats.rejections import Rejection
from driftline.streams.formats.tolerant import UNUSABLE, bad_timestamp, bounded, prediction, second_look

SOURCE = "driftline"
LOG_APPEND_TIME = 1
"""Kafka's timestamp type of records whose timestamp is the broker's; 0 is the producer's (CreateTime)."""
MAX_DEAD_LETTER = 1_000_000
"""Bytes; by default producers and brokers refuse what is longer than 1 MiB, headers included."""
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


def decode(records: Sequence[Raw], watch: Watch, max_bytes: int) -> tuple[Batch, list[Rejection]]:
    """Decode one partition's records, at least one, in log order.

    Returns
    -------
    The batch, and the records that can't be read, by offset.
    """
    predictions: list[Prediction] = []
    rejected: list[Rejection] = []
    flushes: list[Flush] = []
    dropped: Counter[str] = Counter()
    values = [b"" if record.value is None or len(record.value) > max_bytes else record.value for record in records]
    remaining = iter(values)
    while True:
        try:
            predictions.extend(map(prediction, remaining))  # a loop in C that ends behind the value that can't be read
            break
        except UNUSABLE:
            record = records[len(values) - length_hint(remaining) - 1]
            if (flush := flush_of(record)) is not None:
                flushes.append(flush._replace(log_append=record.timestamp_type == LOG_APPEND_TIME))
                continue
            try:
                predictions.append(_second_look(record, watch, max_bytes, dropped))
            except RecordError as refused:
                rejected.append(Rejection.of(record.offset, refused))
    left_out = {each.offset for each in rejected} | {flush.offset for flush in flushes}
    kept = [record for record in records if record.offset not in left_out] if left_out else records
    batch = _timed(records, kept, predictions, rejected, dropped)
    batch = replace(batch, flushes=tuple(flushes)) if flushes else batch
    return batch, sorted(rejected, key=attrgetter("offset"))


def _timed(
    records: Sequence[Raw],
    kept: Sequence[Raw],
    predictions: list[Prediction],
    rejected: list[Rejection],
    dropped: Mapping[str, int],
) -> Batch:
    """Give every prediction its event time, and reject those whose time can't be read."""
    appended_ms = np.fromiter(map(attrgetter("timestamp"), kept), np.int64, len(kept))
    log_append = np.fromiter(map(attrgetter("timestamp_type"), kept), np.int64, len(kept)) == LOG_APPEND_TIME
    offsets = np.fromiter(map(attrgetter("offset"), kept), np.int64, len(kept))
    event_ms = event_times([prediction.timestamp for prediction in predictions], appended_ms)
    if (event_ms < 0).any():
        for row in (event_ms < 0).nonzero()[0].tolist():
            error = bad_timestamp(predictions[row].timestamp, kept[row].timestamp)
            rejected.append(Rejection.of(kept[row].offset, error))
        sound = (event_ms >= 0).nonzero()[0]
        predictions = [predictions[row] for row in sound.tolist()]
        offsets, event_ms = offsets[sound], event_ms[sound]
        appended_ms, log_append = appended_ms[sound], log_append[sound]
    last = records[-1]
    return Batch(
        last.topic,
        last.partition,
        offsets,
        event_ms,
        appended_ms,
        log_append,
        predictions,
        last.offset + 1,
        dropped=dropped,
    )


def _second_look(record: Raw, watch: Watch, max_bytes: int, dropped: Counter[str]) -> Prediction:
    """Read what the decoder of predictions refused.

    Raises
    ------
    RecordError
        Where it can't be used.
    """
    value = record.value
    if isinstance(value, Remains):
        raise RecordError(value.reason)
    found, odd = second_look(bounded(value, max_bytes))
    dropped.update(odd)
    return found if isinstance(found, Prediction) else _named(found, record.timestamp, watch)


def _named(logged: PositionalPrediction, appended_ms: int, watch: Watch) -> Prediction:
    """Name features that a logger gave by position, in the order of the baseline in force at the record's own window.

    Without one they stay unnamed: stage 1 refuses the record, or counts it as late and does not look at its features.

    Raises
    ------
    RecordError
        Where there is no model, or another number of inputs than features.
    """
    model = logged.model or watch.plan.default_model
    if model is None:
        raise RecordError("missing_field", field="model", wanted="a field `model`, or plan.default_model")
    event_ms, plan = event_time(logged.timestamp, appended_ms), watch.plan
    layout = watch.effective((model, logged.model_version), event_ms - event_ms % plan.window_ms)
    names = layout.inputs if layout else ()
    if layout and len(names) != len(logged.input):
        wanted = f"{len(names)} inputs, the features of baseline {layout.baseline.hash}, which is in force then"
        raise RecordError("invalid_field", field="input", found=logged.input, wanted=wanted)
    return Prediction(
        model=model,
        version=logged.model_version,
        features=dict(zip(names, logged.input, strict=False)),
        prediction=logged.output,
        timestamp=logged.timestamp,
        id=logged.id,
    )


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
    values = [msgspec.msgpack.encode(part) for part in mark.parts()]
    return [
        Outgoing("partials", None, value, partition=partition) for value in values for partition in range(partitions)
    ]


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
