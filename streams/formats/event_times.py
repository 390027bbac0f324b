"""Event times as services write them, in milliseconds since the epoch."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

import numpy as np

from driftline.detectors.arrays import I64

WANTED = "ISO 8601 with the year first, or a number of s, ms, us or ns since 1970, not beyond the year 5138"
_S, _MS, _US, _TOO_LATE = 10**11, 10**14, 10**17, 2**63
"""Numbers below these are seconds (until the year 5138), milliseconds, microseconds; others are nanoseconds."""

_NUMBER = re.compile(r"(\d+)(\.\d*)?", re.ASCII)
_DATE_DIGITS, _FEWEST_DIGITS, _COMPACT_DIGITS = 8, 9, 14
_YEAR_FIRST = re.compile(
    r"(?P<year>\d{4})(?P<between>[-/]?)(?P<month>\d\d|(?<=[-/])\d)(?P=between)(?P<day>\d\d|(?<=[-/])\d)"
    r"(?:(?:[Tt_]|\ +)(?P<hour>\d\d|\d(?=:))(?::?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?)?"
    r"\ *(?P<zone>[A-Za-z]+|[+-]\d\d(?::?\d\d)?)?(?P<region>\[[\w/+-]+\])?)?",
    re.ASCII,
)
_MAIL = re.compile(
    r"(?:[A-Z][a-z]{2}, )?\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d(?::\d\d)? (?:GMT|UTC|[+-]\d{4})", re.ASCII
)
_YEAR_LAST = re.compile(r"\d{1,2}[-/. ]\d{1,2}[-/. ]\d{2,4}\b.*", re.ASCII | re.DOTALL)
_LEAP_SECOND = 60


def event_times(timestamps: Sequence[float | str | None], appended_ms: I64) -> I64:
    """Event times in milliseconds since the epoch; -1 where they can't be read.

    Examples
    --------
    The unit is told by the magnitude: the same moment in s, ms, us and ns, as text, and the record's own.

    >>> moment = [1_700_000_000, 1_700_000_000_000, 1_700_000_000_000_000, "2023-11-14T22:13:20Z", None, -5]
    >>> event_times(moment, np.full(6, 7)).tolist()
    [1700000000000, 1700000000000, 1700000000000, 1700000000000, 7, -1]
    """
    odd = [
        row
        for row, stamp in enumerate(timestamps)
        if stamp.__class__ is not int or not 0 <= stamp < _TOO_LATE  # type: ignore[unreachable]
    ]  # no call for a record: that is what `isinstance` would cost; and mypy takes an integer for no float
    usual = list(timestamps)
    for row in odd:
        usual[row] = 0
    found = _scaled(np.array(usual, np.int64))
    for row in odd:
        found[row] = event_time(timestamps[row], int(appended_ms[row]))
    return found


def event_time(stamp: float | str | None, appended_ms: int) -> int:
    """One event time in milliseconds since the epoch, that of the Kafka record where none is told; -1 if unreadable."""
    if stamp is None:
        return (
            appended_ms if 0 <= appended_ms < _MS else -1
        )  # a record's own timestamp is its producer's to choose, too
    try:
        return _milliseconds(stamp)
    except (ValueError, OverflowError):
        return -1


def wanted(stamp: object) -> str:
    """Say why a timestamp can't be read: what is wanted in its place."""
    try:
        _milliseconds(stamp)  # type: ignore[arg-type]  # it has been refused: find out why
    except (ValueError, TypeError, OverflowError) as error:
        return str(error) if isinstance(error, _Unclear) else WANTED
    return WANTED


def seconds_of(moment: Mapping[str, object]) -> float:
    """Seconds since the epoch of a time that is written as an object, rounded down to milliseconds.

    Protobuf's ``{"seconds", "nanos"}``, Firestore's ``{"_seconds", "_nanoseconds"}``, Java's ``{"epochSecond", "nano"}``,
    and MongoDB's ``{"$date": ...}`` with milliseconds, ISO 8601 or ``{"$numberLong": "..."}``.

    Raises
    ------
    ValueError
        For any other object.

    Examples
    --------
    >>> seconds_of({"seconds": "1700000000", "nanos": 123_999_999}), seconds_of({"$date": 1_700_000_000_123})
    (1700000000.123, 1700000000.123)
    """
    for whole, fraction in (("seconds", "nanos"), ("_seconds", "_nanoseconds"), ("epochSecond", "nano")):
        if whole in moment and moment.keys() <= {whole, fraction}:
            nanos = _integer(moment.get(fraction, 0))
            if nanos >= 10**9:
                raise ValueError(nanos)
            return _as_seconds(_integer(moment[whole]) * 1000 + nanos // 1_000_000)
    if moment.keys() != {"$date"}:
        raise ValueError(moment)
    date = moment["$date"]
    if isinstance(date, Mapping):
        if date.keys() != {"$numberLong"}:
            raise ValueError(date)
        date = date["$numberLong"]
    elif isinstance(date, str):
        return _as_seconds(_milliseconds(date))
    return _as_seconds(_integer(date))


def _as_seconds(milliseconds: int) -> float:
    if milliseconds >= _S * 1000:
        raise ValueError(milliseconds)
    return milliseconds / 1000


def _integer(value: object) -> int:
    """A number that is an integer and not negative, also as digits in quotes, as protobuf writes an int64."""
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != int(value):
        raise ValueError(value)
    return int(value)


def _scaled(stamps: I64) -> I64:
    """Integers of any unit, none of them negative, as milliseconds, rounded down."""
    if ((stamps >= _S) & (stamps < _MS)).all():
        return stamps
    scaled = np.where(stamps < _S, stamps * 1000, stamps)
    scaled = np.where(stamps >= _MS, stamps // 1000, scaled)
    return np.where(stamps >= _US, stamps // 1_000_000, scaled)


class _Unclear(ValueError):  # noqa: N818 - named for what was met
    """A time that has several readings, or names what can't be looked up; the message says what is wanted."""


def _milliseconds(stamp: float | str) -> int:
    """One timestamp as milliseconds, rounded down; ValueError where it can't be read."""
    latest = _TOO_LATE
    if isinstance(stamp, str):
        found = _of_text(stamp)
        if isinstance(found, datetime):
            stamp, latest = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp(), _S
        else:
            stamp = found
    if not 0 <= stamp < latest:
        raise ValueError(stamp)
    if stamp < _S:
        return int(round(stamp * 1000, 3))  # .123 s has no exact double: round before cutting off
    return int(stamp // (1 if stamp < _MS else 1000 if stamp < _US else 1_000_000))


def _of_text(text: str) -> datetime | float:
    """A moment, or the number that digits in quotes are."""
    if text[4:5] == "-":
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass
    text = text.strip()
    number = _NUMBER.fullmatch(text)
    if number and len(text) != _DATE_DIGITS:
        return _of_digits(text, number)
    if found := _YEAR_FIRST.fullmatch(text):
        return _of_parts(found)
    if _MAIL.fullmatch(text):
        return parsedate_to_datetime(text.replace("UTC", "GMT"))
    if _YEAR_LAST.fullmatch(text):
        raise _Unclear("the year first: day and month can't be told apart otherwise")
    raise ValueError(text)


def _of_digits(text: str, number: re.Match[str]) -> float:
    whole, fraction = number.groups()
    if len(whole) < _FEWEST_DIGITS:
        raise _Unclear("digits in quotes are a date (YYYYMMDD) or at least 9: fewer may be a year, a month or a number")
    if len(whole) == _COMPACT_DIGITS:
        raise _Unclear(
            "14 digits in quotes may be YYYYMMDDhhmmss or milliseconds: write a T before the time, or a number"
        )
    if len(whole) > 20:
        raise ValueError(whole)
    return float(text) if fraction else int(whole)


def _of_parts(found: re.Match[str]) -> datetime:
    """Put a date and a time of day together, as far as they are there."""
    year, month, day = (int(found[name]) for name in ("year", "month", "day"))
    hour, minute, second = (int(found[name] or 0) for name in ("hour", "minute", "second"))
    microsecond = int((found["fraction"] or "0")[:6].ljust(6, "0"))
    moment = datetime(year, month, day, tzinfo=_zone(found["zone"], found["region"]))
    is_midnight = (hour, minute, second, microsecond) == (24, 0, 0, 0)
    is_leap = second == _LEAP_SECOND  # counted as the first second of the next minute, as POSIX does
    if not is_midnight:
        moment = moment.replace(hour=hour, minute=minute, second=second - is_leap, microsecond=microsecond)
    return moment + timedelta(days=is_midnight, seconds=is_leap)


def _zone(name: str | None, region: str | None) -> timezone:
    """The zone of an offset; a region beside it says nothing more, and one alone can't be looked up."""
    name = name or (region or "UTC").strip("[]")
    if name.upper() in ("Z", "UTC", "GMT", "ETC/UTC"):
        return UTC
    if name[0] not in "+-":
        raise _Unclear("UTC or an offset like +01:00: the name of a zone alone is ambiguous")
    digits = name[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if name[0] == "-" else offset)
