"""What the client writes of what programs hold, and that it refuses exactly what a worker would."""

from __future__ import annotations

import math
from collections import UserDict
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import Plan
from driftline.streams.engine.profiling_stage import ProfilingStage
from driftline.streams.engine.shared import Shared
from driftline.streams.formats import wire
from driftline.streams.formats.plain import encoded, plain
from driftline.streams.observability.metrics import Metrics
from tests.logs import START_MS
from tests.memory_broker import Record

MAX_BYTES = 10_000
WHOLE: dict[str, Any] = {"model": "m", "version": "1", "features": {}, "prediction": 1.0, "id": "a"}

WRITTEN: list[tuple[Any, Any]] = [
    (np.float32(0.5), 0.5),
    (np.float64("nan"), None),
    (np.float64("-inf"), "-Infinity"),
    (np.longdouble("1.5"), 1.5),
    (np.int64(3), 3),
    (np.uint8(3), 3),
    (np.bool_(True), True),  # noqa: FBT003 - a value
    (np.str_("a"), "a"),
    (np.array(2.5), 2.5),
    (np.datetime64("2024-01-31T12:00:00.123456789"), "2024-01-31T12:00:00.123456789"),
    (np.datetime64("NaT"), None),
    (math.inf, "Infinity"),
    (math.nan, None),
    (2**64 - 1, 2**64 - 1),
    (2**64, 2.0**64),
    (-(10**400), "-Infinity"),
    (Decimal("0.25"), 0.25),
    (Decimal("NaN"), None),
    (Decimal("Infinity"), "Infinity"),
    (Decimal("1e999"), "Infinity"),
    (datetime(2024, 1, 31, 12, tzinfo=UTC), "2024-01-31T12:00:00+00:00"),
    (date(2024, 1, 31), "2024-01-31"),
    ({1: 0.25, 2: np.float32(0.75)}, {"1": 0.25, "2": 0.75}),
    ({np.int64(1): 0.25, True + 1: 0.5, 3.0: 0.25}, {"1": 0.25, "2": 0.5, "3": 0.25}),
    ({False: 0.25, True: 0.75}, {"false": 0.25, "true": 0.75}),
    (UserDict({"x": Decimal(1)}), {"x": 1.0}),
    ([np.int64(1), (2,)], [1, [2]]),
    (np.array([1.0, np.nan]), [1.0, None]),
]


@pytest.mark.parametrize(("value", "expected"), WRITTEN)
def test_what_programs_hold_is_written_as_workers_read_it(value: Any, expected: Any) -> None:
    found = plain(value)
    assert orjson.loads(orjson.dumps(found)) == expected
    assert isinstance(found, type(expected))


def test_two_keys_that_are_written_alike_are_refused() -> None:
    with pytest.raises(ValueError, match=r"prediction a: prediction: two keys are written '1'"):
        encoded({**WHOLE, "prediction": {1: 0.5, "1": 0.5}}, MAX_BYTES)


@pytest.mark.parametrize("value", [object(), b"bytes", UUID(int=1).bytes, "\ud800", 1j])
def test_what_cannot_be_written_is_named(value: Any) -> None:
    with pytest.raises(ValueError, match="prediction a: features: "):
        encoded({**WHOLE, "features": {"x": value}}, MAX_BYTES)


def test_a_frame_of_pandas_is_no_row() -> None:
    pd = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"prediction a: features: a table: give one row of it, as frame.iloc\[0\]"):
        encoded({**WHOLE, "features": pd.DataFrame({"x": [1.5]})}, MAX_BYTES)


def test_what_pandas_holds_is_taken() -> None:
    pd = pytest.importorskip("pandas")
    row = pd.DataFrame(
        {"x": [1.5, None], "y": pd.array([None, 2], dtype="Int64"), "when": pd.to_datetime([None, "2024-01-31"])}
    )
    document = {
        **WHOLE,
        "features": row.iloc[0],
        "label": pd.NA,
        "timestamp": pd.Timestamp("2024-01-31T13:00:00.000000001", tz="Europe/Berlin"),
        "prediction": pd.Series([0.25, 0.75], index=[0, 1]),
    }
    assert orjson.loads(encoded(document, MAX_BYTES)) == {
        **WHOLE,
        "features": {"x": 1.5, "y": None, "when": None},
        "timestamp": "2024-01-31T13:00:00.000000001+01:00",
        "prediction": {"0": 0.25, "1": 0.75},
    }
    assert "timestamp" not in orjson.loads(encoded({**WHOLE, "timestamp": pd.NaT}, MAX_BYTES))
    with pytest.raises(ValueError, match="has no time zone"):
        encoded({**WHOLE, "timestamp": pd.Timestamp("2024-01-31")}, MAX_BYTES)


# One validator.

ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 2**62),
    st.floats(),
    st.text(max_size=8),
    st.decimals(),
    st.floats(width=32).map(np.float32),
    st.datetimes(timezones=st.just(timezone(timedelta(hours=2)))),
    st.sampled_from(
        ["", "NaN", "2024-01-31", "01/02/2024", "a|b", "x" * 129, "x" * MAX_BYTES, -1, 10**400, np.int8(1)]
    ),
)
KEYS = st.one_of(st.text(max_size=3), st.integers(0, 3), st.booleans())
VALUES = st.one_of(ATOMS, st.lists(ATOMS, max_size=2), st.dictionaries(KEYS, ATOMS, max_size=3))
SOUND: dict[str, st.SearchStrategy[Any]] = {
    "model": st.just("m"),
    "version": st.just("1"),
    "features": st.dictionaries(st.text(max_size=3), VALUES, max_size=3),
    "prediction": st.floats(0, 1),
    "timestamp": st.just(START_MS),
}
FIELDS = (
    "model",
    "version",
    "features",
    "prediction",
    "id",
    "timestamp",
    "latency_ms",
    "status",
    "segment",
    "label",
    "weight",
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Predictions with an odd field or two, or one that is missing."""
    document = {name: draw(sound) for name, sound in SOUND.items()}
    document |= draw(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=2))
    for name in draw(st.sets(st.sampled_from(FIELDS), max_size=1)):
        if draw(st.integers(0, 4)) == 0:
            document.pop(name, None)
    return document


def written(document: dict[str, Any]) -> bytes | None:
    """What would be written if nobody refused it; None where nothing can be."""
    try:
        known = {name: plain(value) for name, value in document.items()}
        return orjson.dumps({name: each for name, each in known.items() if each is not None or name == "prediction"})
    except (ValueError, TypeError):
        return None


@settings(max_examples=400)
@given(documents())
def test_the_client_refuses_exactly_what_a_worker_would(document: dict[str, Any]) -> None:
    value = written(document)
    refused = None if value is None else reason(value)
    if refused == "unknown_model":  # there is no baseline; else the record is sound
        assert encoded(document, MAX_BYTES) == value
    else:
        with pytest.raises(ValueError, match=refused):
            encoded(document, MAX_BYTES)


def reason(value: bytes) -> str:
    """Why a worker that knows no baseline rejects a record."""
    stage = ProfilingStage(Shared(Watch(Plan(max_ahead_ms=2**50)), 1, 1, MAX_BYTES, Metrics("test")))
    state, _ = stage.restore(0, {})
    _, [letter] = stage.step(state, [Record("predictions", 0, 0, START_MS, value)])
    return dict(letter.headers)["reason"].decode()


@given(documents())
def test_what_the_client_takes_is_decoded(document: dict[str, Any]) -> None:
    try:
        sent = encoded(document, MAX_BYTES)
    except ValueError:
        return
    assert wire.decode([Record("predictions", 0, 0, START_MS, sent)], Watch(Plan()), MAX_BYTES)[1] == []
