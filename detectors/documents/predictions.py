"""The nouns that stage 1 takes in: one prediction, and the batch of them that one poll of one partition brought."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec

from driftline.detectors.arrays import I64, Mask

Value = float | str | bool | None
"""One feature's value as JSON has it."""
NESTED: Any = ()
"""Stands for a list or an object where a feature's value belongs: counted as missing and as a value of the wrong type."""


class Prediction(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """One prediction as a service publishes it: one JSON document a Kafka record.

    Structs are kept out of the cyclic garbage collector (``gc=False``): they hold only atoms and flat dicts, and the
    collector walking them costs up to 40 % of the hot path.

    Parameters
    ----------
    model, version
        Which model made it. At most 128 characters each, no control characters.
    features
        Name to number, string, boolean or null. Null and absent both mean missing.
    prediction
        Number, string, boolean, or class to probability (the most probable class is then the signal).
    timestamp
        Event time: ISO 8601, or a number whose unit (s, ms, us, ns) is told by its magnitude. Absent: the Kafka
        record's own timestamp.
    id
        The service's own identifier, by which labels will find their prediction.
    latency_ms, status, segment, label, weight
        Optional companions of a prediction; carried, not yet judged.
    """

    model: str
    version: str
    features: dict[str, Value]
    prediction: float | str | bool | dict[str, float] | None
    timestamp: int | float | str | None = None
    id: str | int | None = None
    latency_ms: float | None = None
    status: str | int | None = None
    segment: dict[str, str] | None = None
    label: float | str | bool | None = None
    weight: float | None = None


class PositionalPrediction(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """The form of existing loggers: features by position, the model told by the configuration.

    Names come from the baseline's order of features.

    Parameters
    ----------
    input
        Values in that order.
    output
        The prediction.
    model_version
        Version of the model.
    timestamp, id
        As in a prediction.
    model
        The model, where the configuration's ``plan.default_model`` is not it.
    """

    input: list[Value]
    output: float | str | bool | dict[str, float] | None
    model_version: str
    timestamp: int | float | str | None = None
    id: str | int | None = None
    model: str | None = None


class Flush(NamedTuple):
    """A flush mark: a record by which a publisher says that a file of predictions is over.

    Parameters
    ----------
    offset, appended_ms
        Its Kafka offset and its own timestamp.
    event_ms
        The latest event time of the file: the windows up to the one that holds it are to be closed.
    log_append
        Whether its timestamp is the broker's.
    """

    offset: int
    appended_ms: int
    event_ms: int
    log_append: bool = True


@dataclass(frozen=True, slots=True)
class Batch:
    """Decoded records of one partition, in log order.

    Parameters
    ----------
    topic, partition
        Where they came from.
    offsets
        Kafka offsets, shape (n,), ascending. Rejected records are not among them.
    event_ms
        Event times, milliseconds since the epoch, shape (n,).
    appended_ms
        The Kafka records' own timestamps, milliseconds since the epoch, shape (n,).
    log_append
        Whether each of these timestamps is the broker's (LogAppendTime), not the producer's (CreateTime), shape (n,).
    predictions
        The n predictions.
    next_offset
        Offset after the last record that the poll brought, rejected ones included.
    flushes
        Flush marks among them, in log order; their offsets are not among the others.
    dropped
        How many values of optional fields could not be used and were left out, by field; those of all features are
        counted under ``features``.
    """

    topic: str
    partition: int
    offsets: I64
    event_ms: I64
    appended_ms: I64
    log_append: Mask
    predictions: list[Prediction]
    next_offset: int
    flushes: tuple[Flush, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)

    def parts(self) -> Iterator[tuple["Batch", Flush | None]]:
        """The records before each flush mark, and it; then what is left."""
        start = 0
        for flush in self.flushes:
            stop = int(self.offsets.searchsorted(flush.offset))
            yield self._between(start, stop, flush.offset), flush
            start = stop
        yield self._between(start, self.offsets.size, self.next_offset) if self.flushes else self, None

    def _between(self, start: int, stop: int, next_offset: int) -> "Batch":
        rows = slice(start, stop)
        return replace(
            self,
            offsets=self.offsets[rows],
            event_ms=self.event_ms[rows],
            appended_ms=self.appended_ms[rows],
            log_append=self.log_append[rows],
            predictions=self.predictions[rows],
            next_offset=next_offset,
            flushes=(),
        )
