"""Cells of files as values of a prediction document."""

from __future__ import annotations

import json
import math
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from driftline.detectors.layout.values import level_text
from driftline.streams.formats.numerals import is_marker, number, numeral

DATE_LENGTHS = (8, 14)
"""Digits of YYYYMMDD, and of YYYYMMDDhhmmss, which a worker refuses by name."""

if TYPE_CHECKING:
    from collections.abc import Container


def parsed(text: str) -> dict[str, Any]:
    """An object; it may hold NaN or Infinity, as Python's own writer has them."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 20 else float(digits))
    assert isinstance(found, dict)
    return found


def _spelled(value: float) -> float | str | None:
    """A number as JSON has it: NaN is missing, and infinity has a name."""
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def json_value(value: Any) -> Any:
    """A value of a JSON file; infinity is spelled out, for JSON has none."""
    return _spelled(value) if isinstance(value, float) else value


def typed_value(value: Any) -> Any:
    """A value of Parquet's types as JSON has it."""
    if value is None or isinstance(value, str | bool) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    if isinstance(value, int | float | Decimal):
        return _spelled(float(value))
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    if isinstance(value, dict):
        return {name: typed_value(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [typed_value(each) for each in value]
    return str(value) if isinstance(value, UUID) or not isinstance(value, bytes | bytearray) else value.hex()


def name_of(value: Any) -> Any:
    """An id, a model or a version: what it is as text, or a whole number."""
    return value if value is None or isinstance(value, int | str) else str(typed_value(value))


def moment(value: Any) -> Any:
    """A time: a number stays whole where it can, for nanoseconds need all their digits."""
    if not isinstance(value, str):
        return typed_value(value)
    if value.strip() == "":
        return None
    if value.strip().isdecimal() and len(value.strip()) in DATE_LENGTHS:
        return value.strip()  # a date in digits, and no number: as in a live record
    try:
        return int(value)
    except ValueError:
        found = number(value)
        return value.strip() if found is None or not math.isfinite(found) else found


def number_or_text(text: str | None, missing: set[str], decimal: str) -> float | str | None:
    """A cell of a numeric signal; a text that is no number stays one, so that the worker counts it as mistyped.

    Examples
    --------
    >>> [number_or_text(text, {"", "-1"}, ".") for text in ("2.5", "-1", "NA", "old", "inf")]
    [2.5, None, None, 'old', 'Infinity']
    """
    if text is None or text.strip() in missing or text in missing:
        return None
    found = numeral(text, decimal)
    if found is None:
        return None if is_marker(text) else text
    return _spelled(found)


def boolean(text: str | None, missing: set[str]) -> bool | str | None:
    """A cell of a boolean signal.

    Examples
    --------
    >>> [boolean(text, {""}) for text in ("True", "0", "", "maybe")]
    [True, False, None, 'maybe']
    """
    if text is None or text.strip() in missing or text in missing:
        return None
    return {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}.get(
        text.strip().lower(), text
    )


def category(text: str | None, missing: set[str], levels: Container[str]) -> str | None:
    """A cell of a categorical signal: a text, and a number as the baseline spells it.

    Examples
    --------
    >>> [category(text, {""}, frozenset({"3", "007"})) for text in ("3.0", "007", "x", "")]
    ['3', '007', 'x', None]
    """
    if text is None or text.strip() in missing or text in missing:
        return None
    found = None if text in levels else number(text)
    return level_text(found) if found is not None and level_text(found) in levels else text


def guessed(text: str | None, missing: set[str], decimal: str) -> float | str | None:
    """A cell of a column that no baseline has: a number if it is one.

    Examples
    --------
    >>> [guessed(text, {""}, ".") for text in ("2.5", "007", "")]
    [2.5, '007', None]
    """
    if text is None or text.strip() in missing:
        return None
    found = number(text, decimal)
    return text if found is None else _spelled(found)
