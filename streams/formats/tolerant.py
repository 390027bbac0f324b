"""A second, slower look at a record that the decoder refused: what is merely odd about it must not cost the record.

An optional field that can't be used is dropped, a bare NaN or Infinity is respelled, a model or version that is a number
becomes text. What is left is refused, and the error names the field, what was found in it, and what is wanted.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from driftline.detectors.documents.predictions import NESTED, PositionalPrediction, Prediction, Value
from driftline.detectors.errors import RecordError
from driftline.detectors.names import NAME_RULE, is_name
from driftline.streams.formats import event_times
from driftline.streams.formats.foreign import refuse_envelope, refuse_foreign_bytes

UNUSABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoders raise."""
FEATURES = "features"
"""Under this name all features are counted that were dropped."""

_BOM = b"\xef\xbb\xbf"
_UNSPELLABLE = re.compile(
    rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[+-]?(?:[Ii]nf(?:inity)?|[Nn]a[Nn])\b|-?\d[\d.eE+-]*+', re.DOTALL
)
"""Strings, so that nothing inside them is touched; and what stands for a number."""
_SAFE_DIGITS = 300
_CARRIED = {
    field.name: field.type
    for field in msgspec.structs.fields(Prediction)
    if field.name in ("latency_ms", "status", "segment", "label", "weight")
}
prediction = msgspec.json.Decoder(Prediction).decode
_positional = msgspec.json.Decoder(PositionalPrediction).decode
_anything = msgspec.json.Decoder().decode

Dropped = Sequence[str]
"""Fields that were dropped, once for each value."""


def refusal(value: bytes, max_bytes: int) -> RecordError | None:
    """Why any worker would refuse a record, whatever its baselines and the clocks say; None if none would.

    Examples
    --------
    >>> print(refusal(b'{"model": "m", "version": "1", "features": {}}', 100))
    missing_field: prediction: wanted the fields model, version, features, prediction
    """
    try:
        try:
            found: Prediction | PositionalPrediction = prediction(bounded(value, max_bytes))
        except UNUSABLE:
            found, _ = second_look(value)
    except RecordError as error:
        return error
    if event_times.event_time(found.timestamp, 0) < 0:
        return bad_timestamp(found.timestamp)
    version = found.version if isinstance(found, Prediction) else found.model_version
    return bad_name(found.model, version)


def bad_name(model: str | None, version: str) -> RecordError | None:
    """What to say of a model or a version that can't be one's name."""
    for field, name in (("model", model), ("version", version)):
        if name is not None and not is_name(name):
            return RecordError("bad_name", field=field, found=name, wanted=NAME_RULE)
    return None


def second_look(value: bytes) -> tuple[Prediction | PositionalPrediction, Dropped]:
    """Read a record that the decoder of predictions refused.

    Raises
    ------
    RecordError
        Where it can't be used.

    Examples
    --------
    >>> found, dropped = second_look(b'{"model": "m", "version": 1, "features": {"x": NaN}, "prediction": 1, "weight": "a"}')
    >>> found.version, found.features, dropped
    ('1', {'x': None}, ['weight'])
    """
    try:
        return _positional(value), ()
    except UNUSABLE:
        pass
    document = _document(value)
    if not isinstance(document, dict):
        raise RecordError("invalid_field", "no object", found=document, wanted="a JSON object")
    dropped: list[str] = []
    if FEATURES not in document and isinstance(document.get("input"), list):
        return _by_position(document, dropped), dropped
    return _by_name(document, dropped), dropped


def _document(value: bytes) -> Any:
    """The JSON document, whatever it is."""
    value = value.removeprefix(_BOM)
    try:
        return _anything(value)
    except UNUSABLE as error:
        unreadable = error
    if "out of range" in str(unreadable) or any(name in value.lower() for name in (b"nan", b"inf")):
        try:
            return _anything(_UNSPELLABLE.sub(_respelled, value))
        except UNUSABLE as error:
            unreadable = error
    refuse_foreign_bytes(value)
    if isinstance(unreadable, UnicodeDecodeError):
        raise RecordError("invalid_utf8", unreadable.reason, wanted="UTF-8") from unreadable
    raise RecordError("invalid_json", str(unreadable), wanted="one JSON document") from unreadable


def _respelled(token: re.Match[bytes]) -> bytes:
    """NaN as null, and what is infinite or beyond a double as JSON writers spell infinity."""
    text = token[0]
    if text[0] == ord('"'):
        return text
    if text[-1:] in b"nN":
        return b"null"
    if text[-1:] in b"fy":
        return b'"-Infinity"' if text[0] == ord("-") else b'"Infinity"'
    if len(text) > _SAFE_DIGITS or b"e" in text or b"E" in text:
        try:
            number = float(text)
        except ValueError:
            return text
        if math.isinf(number):
            return b'"-Infinity"' if number < 0 else b'"Infinity"'
    return text


def _by_name(document: dict[str, Any], dropped: list[str]) -> Prediction:
    required = ("model", "version", FEATURES, "prediction")
    _refuse_missing(document, required)
    features = document[FEATURES]
    if not isinstance(features, dict):
        raise RecordError("invalid_field", field=FEATURES, found=features, wanted="an object, from name to value")
    carried = {name: _carried(document[name], name, dropped) for name in _CARRIED if name in document}
    return Prediction(
        model=_name(document["model"], "model"),
        version=_name(document["version"], "version"),
        features={name: _value(value, dropped) for name, value in features.items()},
        prediction=_output(document["prediction"], "prediction"),
        timestamp=_timestamp(document.get("timestamp")),
        id=_identifier(document.get("id"), dropped),
        **carried,
    )


def _by_position(document: dict[str, Any], dropped: list[str]) -> PositionalPrediction:
    _refuse_missing(document, ("output", "model_version"))
    model = document.get("model")
    return PositionalPrediction(
        input=[_value(value, dropped) for value in document["input"]],
        output=_output(document["output"], "output"),
        model_version=_name(document["model_version"], "model_version"),
        timestamp=_timestamp(document.get("timestamp")),
        id=_identifier(document.get("id"), dropped),
        model=None if model is None else _name(model, "model"),
    )


def _refuse_missing(document: Mapping[str, Any], required: Sequence[str]) -> None:
    for name in required:
        if name not in document:
            refuse_envelope(document)
            raise RecordError("missing_field", field=name, wanted=f"the fields {', '.join(required)}")


def _name(value: object, field: str) -> str:
    """The name of a model or a version; a number as JSON writes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**64:
        return str(value)
    raise RecordError("invalid_field", field=field, found=value, wanted="text")


def _value(value: object, dropped: list[str]) -> Value:
    """A feature's value as the decoder gives it."""
    if value is None or isinstance(value, str | bool | float):
        return value
    if isinstance(value, int):
        try:
            return float(value)
        except OverflowError:
            return "-Infinity" if value < 0 else "Infinity"
    dropped.append(FEATURES)
    nested: Value = NESTED
    return nested


def _output(value: object, field: str) -> float | str | bool | dict[str, float] | None:
    """The prediction; a class whose probability is missing is left out."""
    if isinstance(value, dict):
        told = {name: _PROBABILITIES.get(each, each) for name, each in value.items() if _is_scalar(each)}
        if len(told) == len(value):
            try:
                return msgspec.convert({k: v for k, v in told.items() if v is not None}, dict[str, float])
            except (msgspec.ValidationError, OverflowError):
                pass
    elif _is_scalar(value):
        return _value(value, [])
    wanted = "a number, text, true, false, null, or an object from class to probability"
    raise RecordError("invalid_field", field=field, found=value, wanted=wanted)


_PROBABILITIES: Mapping[object, float | None] = {"NaN": None, "Infinity": math.inf, "-Infinity": -math.inf}


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | bool | int | float)


def _timestamp(stamp: Any) -> float | str | None:
    """A timestamp, one that is an object as seconds."""
    if stamp is None or (isinstance(stamp, int | float | str) and not isinstance(stamp, bool)):
        return stamp
    try:
        return event_times.seconds_of(stamp)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise bad_timestamp(stamp) from error


def bad_timestamp(stamp: object, appended_ms: int = 0) -> RecordError:
    """What to say of a timestamp that can't be read: the record's, or where there is none the Kafka record's own."""
    if stamp is None:
        wanted = "milliseconds since 1970, not beyond the year 5138; or a field `timestamp`"
        return RecordError("bad_timestamp", field="Kafka timestamp", found=appended_ms, wanted=wanted)
    return RecordError("bad_timestamp", field="timestamp", found=stamp, wanted=event_times.wanted(stamp))


def bounded(value: bytes | None, max_bytes: int) -> bytes:
    """The value, if there is one that is not too long.

    Raises
    ------
    RecordError
        Otherwise.
    """
    if value is None:
        raise RecordError("tombstone", wanted="a value")
    if len(value) > max_bytes:
        wanted = f"at most {max_bytes} bytes (worker.max_record_bytes), not {len(value)}"
        raise RecordError("too_large", wanted=wanted)
    return value


def _identifier(value: object, dropped: list[str]) -> str | int | None:
    """An id; one with a fraction becomes text, unless it is whole."""
    if value is None or isinstance(value, str) or type(value) is int:
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else str(value)
    dropped.append("id")
    return None


def _carried(value: object, name: str, dropped: list[str]) -> Any:
    try:
        return msgspec.convert(value, _CARRIED[name])
    except (msgspec.ValidationError, OverflowError):
        dropped.append(name)
        return None
