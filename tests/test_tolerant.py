"""What is odd about a record costs a field, not the record."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.documents.predictions import NESTED, PositionalPrediction, Prediction
from driftline.streams.formats.tolerant import prediction, refusal, second_look

GOOD: dict[str, Any] = {
    "model": "m",
    "version": "1",
    "features": {"x": 1.5, "y": None, "z": "a", "flag": True},
    "prediction": {"no": 0.25, "yes": 0.75},
    "timestamp": 1_700_000_000,
    "id": "a",
    "latency_ms": 2.5,
    "status": 200,
    "segment": {"country": "CH"},
    "label": "yes",
    "weight": 1.0,
}
POSITIONAL: dict[str, Any] = {"input": [1.5, "a"], "output": 0.5, "model_version": "1", "timestamp": 1.5, "id": 7}

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5))
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
)
OPTIONAL = ("latency_ms", "status", "segment", "label", "weight", "id")


def test_a_sound_record_is_the_same_to_both_looks() -> None:
    value = orjson.dumps(GOOD)
    assert second_look(value) == (prediction(value), [])


@given(field=st.sampled_from(OPTIONAL), value=JSON)
def test_whatever_stands_in_an_optional_field_costs_at_most_that_field(field: str, value: Any) -> None:
    document = json.dumps({**GOOD, field: value}).encode()
    assert refusal(document, 2**20) is None
    found, dropped = second_look(document)
    assert isinstance(found, Prediction)
    assert list(dropped) in ([], [field])
    expected = prediction(orjson.dumps(GOOD))
    others = [name for name in Prediction.__struct_fields__ if name != field]
    assert [getattr(found, name) for name in others] == [getattr(expected, name) for name in others]
    if dropped:
        assert getattr(found, field) is None


@given(value=JSON)
def test_whatever_stands_in_a_feature_costs_at_most_that_feature(value: Any) -> None:
    found, dropped = second_look(json.dumps({**GOOD, "features": {**GOOD["features"], "x": value}}).encode())
    assert isinstance(found, Prediction)
    is_nested = isinstance(value, list | dict)
    assert (found.features["x"] is NESTED) == is_nested
    assert list(dropped) == ["features"] * is_nested
    assert {name: each for name, each in found.features.items() if name != "x"} == {"y": None, "z": "a", "flag": True}


@given(values=st.lists(JSON, max_size=4))
def test_so_it_is_in_the_positional_form(values: list[Any]) -> None:
    found, dropped = second_look(json.dumps({**POSITIONAL, "input": values, "id": []}).encode())
    assert isinstance(found, PositionalPrediction)
    assert len(found.input) == len(values)
    assert sorted(dropped) == ["features"] * sum(isinstance(each, list | dict) for each in values) + ["id"]


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        (b"NaN", None),
        (b"Infinity", "Infinity"),
        (b"-Infinity", "-Infinity"),
        (b"+Infinity", "Infinity"),
        (b"-inf", "-Infinity"),
        (b"nan", None),
        (b"-NaN", None),
        (b"1e999", "Infinity"),
        (b"-1E+999", "-Infinity"),
        (b"-" + b"9" * 5000, "-Infinity"),
        (b"9" * 400, "Infinity"),
        (b"1e-999", 0.0),
        (b"9007199254740993", 9007199254740992.0),
    ],
)
def test_a_number_that_json_or_a_double_does_not_have_is_missing_or_infinite(literal: bytes, expected: Any) -> None:
    value = orjson.dumps({**GOOD, "features": {"x": 41.5, "y": 'a "NaN": NaN, \\" 1e999'}}).replace(b"41.5", literal)
    found, dropped = second_look(value)
    assert isinstance(found, Prediction)
    assert found.features == {"x": expected, "y": 'a "NaN": NaN, \\" 1e999'}
    assert not dropped
    assert refusal(value, 2**20) is None


def test_the_fast_look_and_the_second_agree_on_every_number_that_both_read() -> None:
    for literal in (b"0", b"-0", b"7", b"1e308", b"18446744073709551616", b"9" * 300, b"0.1", b"5e-324"):
        value = orjson.dumps({**GOOD, "features": {"x": 41.5}}).replace(b"41.5", literal)
        [fast, second] = [repr(each.features) for each in (prediction(value), second_look(b"\xef\xbb\xbf" + value)[0])]  # type: ignore[union-attr]
        assert fast == second


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (b'{"a": NaN, "b": 0.5}', {"b": 0.5}),
        (b'{"a": null, "b": 0.5}', {"b": 0.5}),
        (b'{"a": Infinity, "b": 1}', {"a": math.inf, "b": 1.0}),
        (b"NaN", None),
        (b"-Infinity", "-Infinity"),
    ],
)
def test_a_prediction_may_be_missing_or_infinite_too(told: bytes, expected: Any) -> None:
    value = orjson.dumps({**GOOD, "prediction": "P"}).replace(b'"P"', told)
    found, _ = second_look(value)
    assert isinstance(found, Prediction)
    assert found.prediction == expected


@pytest.mark.parametrize(
    ("name", "expected"), [(1, "1"), (0, "0"), (-1, "-1"), (1.0, "1.0"), (1.5, "1.5"), (2**63, str(2**63)), ("1", "1")]
)
@pytest.mark.parametrize("field", ["model", "version"])
def test_a_name_that_is_a_number_is_its_text(field: str, name: Any, expected: str) -> None:
    found, dropped = second_look(orjson.dumps({**GOOD, field: name}))
    assert getattr(found, field) == expected
    assert not dropped


@pytest.mark.parametrize(
    ("change", "field", "found", "wanted"),
    [
        ({"version": None}, "version", None, "text"),
        ({"version": True}, "version", True, "text"),
        ({"model": ["m"]}, "model", ["m"], "text"),
        ({"model": 10**19 * 2}, "model", 2e19, "text"),
        ({"features": [1]}, "features", [1], "an object"),
        ({"features": None}, "features", None, "an object"),
        ({"prediction": [0.5]}, "prediction", [0.5], "a number"),
        ({"prediction": {"a": "high"}}, "prediction", {"a": "high"}, "a number"),
        ({"prediction": {"a": [1]}}, "prediction", {"a": [1]}, "a number"),
        ({"prediction": {"a": True}}, "prediction", {"a": True}, "a number"),
    ],
)
def test_what_a_record_cannot_do_without_is_refused_with_its_name(
    change: dict[str, Any], field: str, found: Any, wanted: str
) -> None:
    error = refusal(json.dumps({**GOOD, **change}).encode(), 2**20)
    assert error is not None
    assert (error.reason, error.field, error.found) == ("invalid_field", field, found)
    assert wanted in error.wanted


@pytest.mark.parametrize(
    "value",
    [
        b'{"a": "' + b'\\"' * 500_000,
        b"NaN," * 250_000,
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b"1" * 1_000_000,
        b"-" * 1_000_000,
        b'"' * 1_000_000,
        b"1e1" * 333_333,
    ],
    ids=lambda value: repr(value[:8]),
)
def test_a_bomb_is_refused(value: bytes) -> None:
    """In time that grows with its length: a reading that is quadratic would not come to an end here."""
    error = refusal(value, 2**20)
    assert error is not None
    assert error.reason in ("invalid_json", "invalid_field")


def test_the_last_of_equal_keys_counts_to_both_looks() -> None:
    twice = orjson.dumps(GOOD)[:-1] + b',"features":{"x":2.5,"x":3.5}}'
    assert prediction(twice).features == {"x": 3.5}
    assert second_look(twice[:-1] + b',"weight":"odd"}')[0].features == {"x": 3.5}  # type: ignore[union-attr]
