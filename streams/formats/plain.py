"""Predictions as programs hold them, as the JSON that workers read: the client's half of the wire format.

Pandas and numpy are told by what their values can do, never imported.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeGuard

import orjson

from driftline.detectors.documents.baseline import PREDICTION
from driftline.detectors.documents.predictions import Prediction
from driftline.detectors.layout.values import level_text
from driftline.streams.formats.rejections import Rejection
from driftline.streams.formats.tolerant import refusal


def encoded(document: Mapping[str, Any], max_bytes: int) -> bytes:
    """A prediction, given by its fields, as bytes that a worker takes.

    Raises
    ------
    ValueError
        Where a worker would refuse it; for a field that there is not, or that can't be written; for a time without zone.

    Examples
    --------
    >>> encoded({"model": "m", "version": 1, "features": {"x": math.inf}, "prediction": None}, 1000)
    b'{"model":"m","version":1,"features":{"x":"Infinity"},"prediction":null}'
    """
    told = document.get("timestamp")
    if _is_naive(told):
        raise ValueError(f"timestamp: {told.isoformat()} has no time zone: use datetime.now(UTC)")
    if unknown := document.keys() - set(Prediction.__struct_fields__):
        raise ValueError(f"a prediction has no {', '.join(sorted(unknown))}")
    what = f"prediction {document.get('id', '')}".rstrip()
    known = {}
    for name, value in document.items():
        try:
            known[name] = plain(value)
            orjson.dumps(known[name])
        except (ValueError, TypeError, RecursionError) as error:  # orjson's error is a TypeError
            raise ValueError(f"{what}: {name}: {error}") from error
    value = orjson.dumps({name: value for name, value in known.items() if value is not None or name == PREDICTION})
    if refused := refusal(value, max_bytes):
        raise ValueError(f"{what}: {Rejection.of(0, refused)}")
    return value


def plain(value: Any) -> Any:
    """A value as ``orjson`` can write it: missing as None, infinity as JSON writers spell it.

    Raises
    ------
    ValueError
        For a mapping two of whose keys are written alike.

    Examples
    --------
    >>> plain({1: Decimal("0.25"), 2: math.inf, "x": math.nan})
    {'1': 0.25, '2': 'Infinity', 'x': None}
    """
    if value is None or isinstance(value, str | bool):
        return value
    for is_one, convert in _KINDS:
        if is_one(value):
            return convert(value)
    return value


def _is_naive(value: object) -> TypeGuard[datetime]:
    """Whether a value is a datetime without a time zone; pandas' are datetimes."""
    return isinstance(value, datetime) and value == value and value.utcoffset() is None  # noqa: PLR0124 - NaT is not itself


def _number(value: float | Decimal) -> float | str | None:
    """A number as a double has it."""
    if isinstance(value, Decimal):
        return None if value.is_nan() else _number(float(value))
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return int(value)
    try:
        found = float(value)
    except OverflowError:
        found = math.inf if value > 0 else -math.inf
    if math.isnan(found):
        return None
    return found if math.isfinite(found) else "Infinity" if found > 0 else "-Infinity"


def _is_scalar(value: Any) -> bool:
    """Whether it is a scalar, or an array without dimensions, of numpy."""
    return getattr(value, "ndim", None) == 0 and hasattr(value, "item")


def _scalar(value: Any) -> Any:
    """What a scalar holds; a time keeps its nanoseconds and has no zone, so that it is UTC."""
    if value.dtype.kind == "M":
        text = str(value)
        return None if text == "NaT" else text
    return _number(float(value)) if value.dtype.kind == "f" else plain(value.item())  # a long double holds itself


def _is_pandas_missing(value: Any) -> bool:
    kind = type(value)
    return kind.__module__.startswith("pandas.") and kind.__name__ in ("NAType", "NaTType")


def _is_mapping(value: Any) -> bool:
    """Whether it is a mapping, or a Series, which is none but has items."""
    return isinstance(value, Mapping) or hasattr(value, "items")


def _mapping(value: Any) -> dict[str, Any]:
    if getattr(value, "ndim", 1) > 1:
        raise ValueError("a table: give one row of it, as frame.iloc[0]")
    found: dict[str, Any] = {}
    for key, each in value.items():
        name = level_text(key.item() if _is_scalar(key) else key)
        if name in found:
            raise ValueError(f"two keys are written {name!r}")
        found[name] = plain(each)
    return found


def _is_list(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, bytes | bytearray | memoryview)


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[[Any], Any]], ...] = (
    (lambda value: isinstance(value, float | int | Decimal), _number),
    (_is_pandas_missing, lambda _: None),
    (lambda value: isinstance(value, date), lambda value: value.isoformat()),  # datetime, too
    (_is_scalar, _scalar),
    (_is_mapping, _mapping),
    (_is_list, lambda value: list(map(plain, value))),
)
"""How each kind of value is told, and written; the first that fits."""
