"""How services write times: what is read, alike however it is written, and what is refused by name."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.streams.formats.event_times import WANTED, event_times, wanted
from driftline.streams.formats.tolerant import refusal, second_look

if TYPE_CHECKING:
    from collections.abc import Callable

MANUAL = (Path(__file__).resolve().parent.parent / "docs" / "wire-formats.md").read_text(encoding="utf-8")

MOMENT_MS = st.integers(10**11, 4 * 10**12)  # from 1973 on a number of milliseconds is told from seconds
SPELLINGS: dict[str, Callable[[int], Any]] = {
    "s": lambda ms: ms / 1000,
    "ms": lambda ms: ms,
    "float ms": float,
    "us": lambda ms: ms * 1000,
    "ns": lambda ms: ms * 1_000_000,
    "Z": lambda ms: _moment(ms).isoformat().replace("+00:00", "Z"),
    "offset": lambda ms: _moment(ms).astimezone(timezone(timedelta(hours=-5, minutes=-30))).isoformat(),
    "naive": lambda ms: _moment(ms).replace(tzinfo=None).isoformat(),
    "s in quotes": lambda ms: f"{ms // 1000}.{ms % 1000:03}",
    "ms in quotes": lambda ms: f"{ms}.0",
    "us in quotes": lambda ms: str(ms * 1000),
    "z": lambda ms: _moment(ms).isoformat().replace("+00:00", "z"),
    "UTC": lambda ms: _moment(ms).strftime("%Y-%m-%d %H:%M:%S.%f UTC"),
    "Java's": lambda ms: _moment(ms).isoformat().replace("+00:00", "Z[UTC]"),
    "Java's with a region": lambda ms: f"{_local(ms).isoformat()}[Asia/Kolkata]",
    "offset after a space": lambda ms: _local(ms).strftime("%Y-%m-%d %H:%M:%S.%f %z"),
    "nanoseconds": lambda ms: f"{_moment(ms):%Y-%m-%dT%H:%M:%S.%f}999Z",
    "comma": lambda ms: f"{_moment(ms):%Y-%m-%dT%H:%M:%S,%f}Z",
    "slashes": lambda ms: f"{_moment(ms):%Y/%m/%d %H:%M:%S.%f}",
    "basic": lambda ms: f"{_moment(ms):%Y%m%dT%H%M%S.%f}Z",
}


def _local(ms: int) -> datetime:
    return _moment(ms).astimezone(timezone(timedelta(hours=5, minutes=30)))


def _moment(ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)


@given(MOMENT_MS)
def test_a_moment_is_the_same_however_it_is_told(ms: int) -> None:
    told = [spell(ms) for spell in SPELLINGS.values()]
    assert event_times(told, np.zeros(len(told), np.int64)).tolist() == [ms] * len(told)


@given(
    st.lists(
        st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-5, 10**18), st.sampled_from([10**11, 10**14, 10**17]))
    )
)
def test_a_column_of_integers_is_read_like_each_of_them(stamps: list[int]) -> None:
    column = event_times(stamps, np.zeros(len(stamps), np.int64)).tolist()
    one_by_one = [int(event_times([stamp, None], np.zeros(2, np.int64))[0]) for stamp in stamps]
    assert column == one_by_one


@given(st.one_of(st.text(), st.floats(allow_nan=False), st.integers()))
def test_any_timestamp_is_read_or_refused(stamp: Any) -> None:
    [found] = event_times([stamp], np.zeros(1, np.int64)).tolist()
    assert -1 <= found < 10**14


@pytest.mark.parametrize(
    ("stamp", "expected"), [(0, 0), (1, 1000), (10**11 - 1, (10**11 - 1) * 1000), (10**11, 10**11)]
)
def test_the_magnitude_tells_the_unit(stamp: int, expected: int) -> None:
    assert event_times([stamp], np.zeros(1, np.int64)).tolist() == [expected]


def test_a_fraction_of_a_millisecond_is_cut_off() -> None:
    stamps: list[float | str | None] = [1_700_000_000.1239, 1_700_000_000_123_999, "2023-11-14T22:13:20.123999Z"]
    assert event_times(stamps, np.zeros(3, np.int64)).tolist() == [1_700_000_000_123] * 3


# The table of the manual.

NOON_MS = 1_706_702_400_000
READ: dict[str, Any] = {
    "2024-01-31T12:00:00Z": NOON_MS,
    "2024-01-31 12:00:00": NOON_MS,
    "2024-01-31t12:00:00z": NOON_MS,
    "2024-01-31T12:00": NOON_MS,
    "2024-01-31T12:00:00.123456789Z": NOON_MS + 123,
    "2024-01-31T12:00:00,5Z": NOON_MS + 500,
    "2024-01-31T13:00:00+01:00": NOON_MS,
    "2024-01-31T13:00:00 +0100": NOON_MS,
    "2024-01-31T13:00:00+01": NOON_MS,
    "2024-01-31T07:00:00 -05:00": NOON_MS,
    "2024-01-31T12:00:00 UTC": NOON_MS,
    "2024-01-31T12:00:00GMT": NOON_MS,
    "2024-01-31T12:00:00Z[UTC]": NOON_MS,
    "2024-01-31T12:00:00[UTC]": NOON_MS,
    "2024-01-31T13:00:00+01:00[Europe/Berlin]": NOON_MS,
    "2024-01-31T24:00:00Z": NOON_MS + 43_200_000,
    "2024-12-31T24:00:00Z": 1_735_689_600_000,
    "2024-01-31T11:59:60Z": NOON_MS,
    "2024/01/31 12:00:00": NOON_MS,
    "2024/1/31": NOON_MS - 43_200_000,
    "2024/1/31 9:00": NOON_MS - 10_800_000,
    "2024-01-31 9:00:00": NOON_MS - 10_800_000,
    "2024-01-31": NOON_MS - 43_200_000,
    "20240131": NOON_MS - 43_200_000,
    "20240131T120000Z": NOON_MS,
    "20240131T120000.5+0000": NOON_MS + 500,
    "Wed, 31 Jan 2024 12:00:00 GMT": NOON_MS,
    "31 Jan 2024 13:00:00 +0100": NOON_MS,
    " 2024-01-31T12:00:00Z ": NOON_MS,
    "1706702400": NOON_MS,
    "1706702400000": NOON_MS,
    "1706702400000000": NOON_MS,
    "1706702400000000000": NOON_MS,
    "1706702400.25": NOON_MS + 250,
}
OBJECTS: list[tuple[Any, int]] = [
    ({"seconds": 1_706_702_400, "nanos": 123_999_999}, NOON_MS + 123),
    ({"seconds": "1706702400"}, NOON_MS),
    ({"seconds": 50, "nanos": 0}, 50_000),
    ({"_seconds": 1_706_702_400, "_nanoseconds": 0}, NOON_MS),
    ({"epochSecond": 1_706_702_400, "nano": 5_000_000}, NOON_MS + 5),
    ({"$date": NOON_MS}, NOON_MS),
    ({"$date": "2024-01-31T12:00:00Z"}, NOON_MS),
    ({"$date": {"$numberLong": "1706702400000"}}, NOON_MS),
    ({"$date": 5}, 5),
]
# What is refused, and a word of what is wanted.
REFUSED: list[tuple[Any, str]] = [
    ("01/02/2024", "year first"),
    ("31/01/2024 12:00", "year first"),
    ("31.01.2024", "year first"),
    ("1-2-24", "year first"),
    ("2024", "at least 9"),
    ("202401", "at least 9"),
    ("20240131120000", "14 digits"),
    ("2024-01-31T12:00:00[Europe/Berlin]", "offset"),
    ("2024-01-31 12:00:00 CET", "offset"),
    *[
        (each, WANTED)
        for each in (
            *("", "yesterday", "12:00:00", "2024-02-30", "20241301", "2024-01-31T25:00:00", "2024-01-31T24:00:01"),
            *("2024-01-31T12:60:00", "2024-01-31T12:00:61", "2024-01-31T12:00:00+99:00", "2024-01/31", "-1706702400"),
            *("2024-01-31T12:00:00Z or so", "1e9", "NaN", "Infinity", "9999-12-31", "1969-12-31", "９", "1" * 40),
        )
    ],
    *[
        (each, WANTED)
        for each in (
            *(True, [2024, 1, 31], {}, {"seconds": "x"}, {"seconds": 1, "minutes": 2}, {"seconds": 1, "nanos": 10**9}),
            *({"$date": None}, {"$date": -1}, {"$date": "01/02/2024"}, {"$date": {"$numberLong": 1.5}}, -1),
            *({"seconds": 10**11}, {"seconds": True}, {"seconds": "9" * 5000}, {"$date": [1]}, {"$oid": "1"}),
        )
    ],
]


@pytest.mark.parametrize("text", READ)
def test_a_time_is_read_in_every_form_of_the_table(text: str) -> None:
    assert event_times([text], np.zeros(1, np.int64)).tolist() == [READ[text]]
    assert refused(text) is None


def refused(stamp: Any) -> Any:
    document = {"model": "m", "version": "1", "features": {}, "prediction": 1, "timestamp": stamp}
    return refusal(orjson.dumps(document), 2**20)


@pytest.mark.parametrize(("moment", "expected"), OBJECTS)
def test_a_time_that_is_an_object_is_never_taken_for_another_unit(moment: Any, expected: int) -> None:
    document = orjson.dumps({"model": "m", "version": "1", "features": {}, "prediction": 1, "timestamp": moment})
    found, dropped = second_look(document)
    assert not dropped
    assert event_times([found.timestamp], np.zeros(1, np.int64)).tolist() == [expected]


@pytest.mark.parametrize(("stamp", "why"), REFUSED)
def test_what_is_no_time_or_several_is_refused_by_name(stamp: Any, why: str) -> None:
    error = refused(stamp)
    assert (error.reason, error.field, error.found) == ("bad_timestamp", "timestamp", stamp)
    assert why in error.wanted


@given(st.from_regex(r"[0-9]{1,4}[-/. T:Z+]?[0-9]{1,4}[-/. T:Z+]?[0-9]{1,4}[-/. T:Z+,]?[0-9:]{0,9}[Zz+ ]?[0-9:]{0,5}"))
def test_any_text_that_looks_like_a_time_is_read_or_refused_with_a_reason(text: str) -> None:
    [found] = event_times([text], np.zeros(1, np.int64)).tolist()
    assert -1 <= found < 10**14
    assert found >= 0 or wanted(text)


def test_the_manual_shows_what_is_read_and_what_is_refused() -> None:
    [section] = re.findall(r"^### Times\n(.*?)^##", MANUAL, re.DOTALL | re.MULTILINE)
    read, refused_there = section.split("Refused")
    shown = re.findall(r"`([^`]+)`", read)
    texts = [each.strip('"') for each in shown if each.startswith('"')]
    objects = [orjson.loads(each) for each in shown if each.startswith("{")]
    assert len(texts) > 15
    assert all(event_times([each], np.zeros(1, np.int64))[0] >= 0 for each in texts)
    assert len(objects) >= 5
    assert all(refused(each) is None for each in objects)
    examples = re.findall(r'`"([^`]+)"`', refused_there)
    assert len(examples) >= 5
    assert all(refused(each) is not None for each in examples)
