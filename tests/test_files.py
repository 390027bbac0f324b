"""Rows from files: the same rows in every format are the same columns, and what can't be read names the place."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.errors import OperatorError
from driftline.detectors.records import PositionalPrediction, Prediction
from driftline.streams.files import FORMATS, cell_value, count_rows, read_columns, read_predictions, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

ROWS: list[dict[str, Any]] = [
    {"id": "a1", "timestamp": "2025-01-06T00:00:00Z", "age": 41.0, "plan": "basic", "score": 0.1, "model": "m"},
    {"id": "a2", "timestamp": "2025-01-06T00:00:01Z", "age": None, "plan": "true", "score": 0.9, "model": "m"},
    {"id": "a3", "timestamp": "2025-01-06T00:00:02Z", "age": -3.5, "plan": None, "score": 0.5, "model": "m"},
]


def as_csv(path: Path, table: Sequence[dict[str, Any]]) -> Path:
    lines = [",".join(table[0]), *(",".join("" if v is None else str(v) for v in row.values()) for row in table)]
    path.write_text("\n".join(lines) + "\n")
    return path


def as_jsonl(path: Path, table: Sequence[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in table))
    return path


def as_parquet(path: Path, table: Sequence[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(list(table)), path, row_group_size=2)
    return path


WRITERS: dict[str, Callable[[Path, Sequence[dict[str, Any]]], Path]] = {
    ".csv": as_csv,
    ".jsonl": as_jsonl,
    ".ndjson": as_jsonl,
    ".parquet": as_parquet,
}


def test_every_format_has_a_writer_here() -> None:
    assert WRITERS.keys() == FORMATS.keys()


@pytest.mark.parametrize("ending", FORMATS)
def test_all_formats_hold_the_same_columns(ending: str, tmp_path: Path) -> None:
    path = WRITERS[ending](tmp_path / f"rows{ending}", ROWS)
    assert read_columns(path, "score") == {
        "age": [41.0, None, -3.5],
        "plan": ["basic", "true", None],
        "prediction": [0.1, 0.9, 0.5],
    }
    assert count_rows(path) == 3


@pytest.mark.parametrize("ending", FORMATS)
def test_all_formats_hold_the_same_predictions(ending: str, tmp_path: Path) -> None:
    table = [{("prediction" if name == "score" else name): value for name, value in row.items()} for row in ROWS]
    path = WRITERS[ending](tmp_path / f"rows{ending}", table)
    found = list(read_predictions(path, None, "v9"))
    assert found[1] == {
        "model": "m",
        "version": "v9",
        "id": "a2",
        "timestamp": "2025-01-06T00:00:01Z",
        "features": {"age": None, "plan": "true"},
        "prediction": 0.9,
    }
    decoded = [msgspec.json.decode(orjson.dumps(document), type=Prediction) for document in found]
    assert [each.id for each in decoded] == ["a1", "a2", "a3"]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_documents_of_the_wire_form_give_their_features(ending: str, tmp_path: Path) -> None:
    documents = [
        {"model": "m", "version": "v1", "features": {"age": 1.0, "city": "x"}, "prediction": 0.25},
        {"model": "m", "version": "v1", "features": {"age": 2.0, "city": None}, "prediction": 0.75},
    ]
    path = WRITERS[ending](tmp_path / f"rows{ending}", documents)
    assert read_columns(path) == {"age": [1.0, 2.0], "city": ["x", None], "prediction": [0.25, 0.75]}
    assert list(read_predictions(path, None, None)) == documents


def test_documents_by_position_pass_as_they_are(tmp_path: Path) -> None:
    logged = {"input": [0.5, 2.1], "output": 0.9, "model_version": "v1.2", "timestamp": 1_700_000_000}
    path = as_jsonl(tmp_path / "log.jsonl", [logged])
    assert list(read_predictions(path, None, None)) == [logged]
    (named,) = read_predictions(path, "churn", "unused")
    assert msgspec.convert(named, PositionalPrediction).model == "churn"


def test_probabilities_of_classes_are_a_prediction(tmp_path: Path) -> None:
    path = as_jsonl(tmp_path / "rows.jsonl", [{"age": 1, "prediction": {"yes": 0.7, "no": 0.3}}])
    assert read_columns(path)["prediction"] == [{"yes": 0.7, "no": 0.3}]


def test_columns_that_appear_late_or_not_always_are_missing_elsewhere(tmp_path: Path) -> None:
    path = as_jsonl(tmp_path / "rows.jsonl", [{"a": 1}, {"b": 2}, {"a": 3, "b": 4}])
    assert read_columns(path) == {"a": [1, None, 3], "b": [None, 2, 4]}


def test_nan_is_missing_and_infinity_is_kept(tmp_path: Path) -> None:
    text = '{"a": NaN, "prediction": 1}\n{"a": Infinity, "prediction": 1}\n{"a": 1e999, "prediction": 1}\n'
    (path := tmp_path / "rows.jsonl").write_text(text)
    assert read_columns(path)["a"] == [None, math.inf, math.inf]
    spelled = [each["features"]["a"] for each in read_predictions(path, "m", "v")]
    assert spelled == [None, "Infinity", "Infinity"]
    (path := tmp_path / "rows.csv").write_text("a,prediction\nnan,1\n-inf,1\n")
    assert read_columns(path)["a"] == [None, -math.inf]
    assert [each["features"]["a"] for each in read_predictions(path, "m", "v")] == [None, "-Infinity"]


def test_an_integer_of_5000_digits_is_infinite(tmp_path: Path) -> None:
    (path := tmp_path / "rows.jsonl").write_text('{"a": ' + "9" * 5000 + "}\n")
    assert read_columns(path) == {"a": [math.inf]}


def test_ids_keep_their_zeros_and_nanoseconds_their_digits(tmp_path: Path) -> None:
    (path := tmp_path / "rows.csv").write_text("id,timestamp,a,prediction\n007,1700000000123456789,1,2\n")
    (document,) = read_predictions(path, "m", "v")
    assert (document["id"], document["timestamp"]) == ("007", 1_700_000_000_123_456_789)


def test_csv_with_byte_order_mark_quotes_and_blank_lines(tmp_path: Path) -> None:
    (path := tmp_path / "rows.csv").write_bytes(b'\xef\xbb\xbfa,b\r\n1,"x, ""y""\nz"\r\n\r\n2,w\r\n')
    assert read_columns(path) == {"a": [1.0, 2.0], "b": ['x, "y"\nz', "w"]}
    assert count_rows(path) == 2


@given(st.floats(allow_nan=False))
def test_any_number_is_read_as_it_was_written(number: float) -> None:
    assert cell_value(repr(number)) == number


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.csv", b"a,b\n1,2\n3\n", "line 3: 1 cells for 2 columns"),
        ("rows.csv", b"a,a\n1,2\n", "names a column twice"),
        ("rows.csv", b"a\n\xff\n", "not UTF-8"),
        ("rows.csv", b'a\n"x\n', "no CSV"),
        ("rows.csv", b"", "no rows"),
        ("rows.csv", b"a,b\n", "no rows"),
        ("rows.jsonl", b'{"a": 1}\n{"a": \n', "line 2: is no JSON"),
        ("rows.jsonl", b"[" * 100_000 + b"\n", "line 1: is no JSON"),
        ("rows.jsonl", b"[1]\n", "line 1: is no JSON object"),
        ("rows.jsonl", b'{"a": [1]}\n', "row 1: a: a list is neither"),
        ("rows.parquet", b"PAR1", "no Parquet"),
        ("rows.xlsx", b"", ".xlsx is none of .csv"),
        ("rows", b"", "no ending is none of"),
    ],
)
def test_what_cannot_be_read_names_the_place(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (path := tmp_path / name).write_bytes(content)
    with pytest.raises(OperatorError, match="rows") as raised:
        read_columns(path)
    assert said in str(raised.value)


def test_a_file_that_is_not_there_names_its_path(tmp_path: Path) -> None:
    for read in (count_rows, read_columns):
        with pytest.raises(OperatorError, match=r"rows\.jsonl: No such file"):
            read(tmp_path / "rows.jsonl")


def test_the_named_prediction_must_exist_and_be_the_only_one(tmp_path: Path) -> None:
    path = as_csv(tmp_path / "rows.csv", [{"a": 1, "score": 2, "prediction": 3}])
    with pytest.raises(OperatorError, match="no such column; it has a, score, prediction"):
        read_columns(path, "scroe")
    with pytest.raises(OperatorError, match="has a column prediction too"):
        read_columns(path, "score")


def test_flat_rows_need_a_model_from_somewhere(tmp_path: Path) -> None:
    path = as_csv(tmp_path / "rows.csv", [{"a": 1, "prediction": 3}])
    with pytest.raises(OperatorError, match="row 1: tells no model and version; give --model and --version"):
        next(read_predictions(path, "m", None))


def test_reading_is_a_stream(tmp_path: Path) -> None:
    """The broken third line is only met by who gets that far."""
    (path := tmp_path / "rows.jsonl").write_text('{"a": 1}\n{"a": 2}\nbroken\n')
    stream = rows(path)
    assert [next(stream), next(stream)] == [{"a": 1}, {"a": 2}]
    with pytest.raises(OperatorError, match="line 3"):
        next(stream)


def test_parquet_without_pyarrow_names_the_remedy(tmp_path: Path) -> None:
    path = as_parquet(tmp_path / "rows.parquet", ROWS)
    program = f"""
        import sys
        from pathlib import Path
        from driftline.detectors.errors import OperatorError
        from driftline.streams.files import count_rows
        assert "pyarrow" not in sys.modules
        sys.modules["pyarrow"] = None  # an import of it fails from here on
        try:
            count_rows(Path({str(path)!r}))
        except OperatorError as error:
            print(error)
    """
    told = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True)
    assert "pip install 'driftline[parquet]'" in told.stdout
