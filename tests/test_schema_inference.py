"""What columns are taken for, from the texts of a file to the decision: a table of what people's columns look like."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.detectors.baselines.fit import fit
from driftline.detectors.baselines.training import CategoricalColumn, NumericColumn
from driftline.detectors.errors import OperatorError
from driftline.streams.files.options import Reading
from driftline.streams.files.training_columns import read_training
from driftline.streams.formats.numerals import MARKERS, is_number, number

if TYPE_CHECKING:
    from pathlib import Path

    from driftline.streams.files.training_columns import Read

N = 200
RNG = np.random.default_rng(5)
WORDS = ["lorem", "ipsum", "dolor", "sit", "amet"]


def sentence() -> str:
    return " ".join(RNG.choice(WORDS, 8)) + f" {RNG.random():.6f}"


def read(directory: Path, columns: dict[str, Any], delimiter: str = ",", **told: Any) -> Read:
    path = directory / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return read_training([path], Reading(**told))


COLUMNS: list[tuple[str, str, list[Any]]] = [
    ("price", "numeric", [f"{x:.2f}" for x in RNG.normal(10, 2, N)]),
    ("rating", "numeric", [row % 10 for row in range(N)]),
    ("flag", "numeric", [row % 2 for row in range(N)]),
    ("income", "numeric", [f"{row * 1000:,}" for row in RNG.permutation(N)]),
    ("cents", "numeric", RNG.choice(100_000, N, replace=False).tolist()),
    ("big", "numeric", [f"{x:.3e}" for x in RNG.normal(0, 1e9, N)]),
    ("with_markers", "numeric", ["NA", "n/a", "NULL", "None", "\\N", "?", "", "nan", *range(N - 8)]),
    ("infinite", "numeric", ["inf", "-Infinity", *RNG.normal(size=N - 2)]),
    ("plan", "categorical", [("basic", "pro", "team")[row % 3] for row in range(N)]),
    ("zip", "categorical", [f"{row % 40:05d}" for row in range(N)]),
    ("code", "categorical", [f"A{row % 40}" for row in range(N)]),
    ("answer", "categorical", [("yes", "no")[row % 2] for row in range(N)]),
    ("share", "categorical", [f"{row % 5}0%" for row in range(N)]),
    ("new", "boolean", [row % 3 == 0 for row in range(N)]),
    ("upper", "boolean", [("TRUE", "FALSE")[row % 2] for row in range(N)]),
    ("same", "constant", ["x"] * N),
    ("zero", "constant", [0] * N),
    ("Unnamed: 0", "index", RNG.choice(100_000, N, replace=False).tolist()),
    ("number", "index", list(range(N))),
    ("PassengerId", "index", list(range(1, N + 1))),
    ("shuffled", "index", RNG.permutation(N).tolist()),
    ("customer_id", "id", RNG.choice(100_000, N, replace=False).tolist()),
    ("uuid", "id", [str(UUID(int=row * 977)) for row in range(N)]),
    ("ticket", "id", [f"T{row % 150}" for row in range(N)]),
    ("date", "date", [f"2024-01-{row % 28 + 1:02d}" for row in range(N)]),
    ("day", "date", [f"{row % 12 + 1}/{row % 28 + 1}/2024" for row in range(N)]),
    ("slashes", "date", [f"2012/{row % 12 + 1:02d}/01" for row in range(N)]),
    ("german", "date", [f"{row % 28 + 1}.{row % 12 + 1}.2024 12:30" for row in range(N)]),
    ("at", "date", [f"2024-01-{row % 28 + 1:02d}T12:{row % 60:02d}:00.123Z" for row in range(N)]),
    ("clock", "date", [f"{row % 24}:{row % 60:02d}" for row in range(N)]),
    ("month", "date", [f"{row % 28 + 1} Jan 2024" for row in range(N)]),
    ("created_at", "date", [1_700_000_000 + row * 977 for row in range(N)]),
    ("ts", "date", [1_700_000_000 + row * 1.37 for row in range(N)]),
    ("java", "date", [f"2024-01-{row % 28 + 1:02d}T12:00:00.5Z[UTC]" for row in range(N)]),
    ("date_key", "numeric", [row % 7 * 1.5 for row in range(N)]),
    ("order_date", "date", [20_240_101 + row % 28 for row in range(N)]),
    ("comment", "text", [sentence() for _ in range(N)]),
    ("nothing", "empty", [""] * N),
    ("all_na", "empty", ["NA"] * N),
]


@pytest.mark.parametrize(("name", "kind", "values"), COLUMNS, ids=[name for name, *_ in COLUMNS])
def test_a_column_is_taken_for_what_it_is(name: str, kind: str, values: list[Any], tmp_path: Path) -> None:
    found = read(tmp_path, {name: values, "other": [0.5] * N})
    assert found.decisions[name].kind == kind
    assert (name in found.columns) == (kind in ("numeric", "categorical", "boolean", "constant"))
    assert found.decisions[name].reason


def test_missing_values_are_counted_by_the_text_that_stands_for_them(tmp_path: Path) -> None:
    values = ["NA", "NA", "?", "", " ", "nan", *range(6, 30)]
    found = read(tmp_path, {"a": values, "b": ["NA", "x", *["y"] * 28]})
    assert found.counts("a") == ("6 (NA, ?, nan)", "24")
    column = found.columns["a"]
    assert isinstance(column, NumericColumn)
    assert column.markers == ("", " ", "?", "NA", "nan")
    assert np.isnan(column.values).sum() == 6
    assert column.text == 0
    levels = found.columns["b"]
    assert isinstance(levels, CategoricalColumn)
    assert sorted(levels.levels) == ["NA", "x", "y"]
    assert "NA is a level (1 rows): give --na 'NA'" in found.decisions["b"].reason
    told = read(tmp_path, {"a": values, "b": ["NA", "x", *["y"] * 28]}, na=("NA",))
    assert told.columns["b"].markers == ("", "NA")
    assert told.counts("b") == ("1 (NA)", "2")


@pytest.mark.parametrize(
    ("values", "sentinel"),
    [
        ([-999, *range(30)], "-999 occurs 1 times"),
        ([9999, 9999, *range(30)], "9999 occurs 2 times"),
        ([-1, *range(5, 40)], "-1 occurs 1 times"),
        ([-1, 0, 1, 2, 3, -2], ""),
        (list(range(900, 1_000)), ""),
        ([*range(95, 100)], ""),
    ],
)
def test_a_code_for_missing_values_is_pointed_out_and_kept(values: list[int], sentinel: str, tmp_path: Path) -> None:
    shuffled = [*values, values[-1]]
    found = read(tmp_path, {"a": shuffled, "b": [0.5] * len(shuffled)})
    assert sentinel in found.decisions["a"].reason
    assert ("--na" in found.decisions["a"].reason) == bool(sentinel)
    assert np.isfinite(found.columns["a"].values).all()  # type: ignore[union-attr]
    if sentinel:
        text = str(values[0])
        told = read(tmp_path, {"a": shuffled, "b": [0.5] * len(shuffled)}, na=(text,))
        assert np.isnan(told.columns["a"].values).sum() == values.count(values[0])  # type: ignore[union-attr]


def test_a_stored_number_is_missing_where_it_is_named_so(tmp_path: Path) -> None:
    rows = [{"a": -999.0 if row % 5 == 0 else row / 7, "b": -999 if row % 5 == 0 else row} for row in range(40)]
    (path := tmp_path / "rows.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    found = read_training([path], Reading(na=("-999",)))
    for name in ("a", "b"):
        assert np.isnan(found.columns[name].values).sum() == 8  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("texts", "decimal", "numbers"),
    [
        (["1,5", "3,14", "1.234,5"], None, [1.5, 3.14, 1234.5]),
        (["1,234", "5,678", "9"], None, [1234, 5678, 9]),
        (["1,234", "5,678", "9"], ",", [1.234, 5.678, 9]),
        (["1,234.5", "12,345,678", "-1"], None, [1234.5, 12345678, -1]),
        (["1.234", "5.678", "9"], None, [1.234, 5.678, 9]),
        (["1.234", "5.678", "9"], ",", [1234, 5678, 9]),
    ],
)
def test_decimal_marks_by_a_stated_rule(
    texts: list[str], decimal: str | None, numbers: list[float], tmp_path: Path
) -> None:
    found = read(tmp_path, {"a": texts, "b": ["x", "y", "x"]}, ";", decimal=decimal)
    assert found.columns["a"].values.tolist() == numbers  # type: ignore[union-attr]


def test_one_column_with_decimal_commas_decides_for_the_file(tmp_path: Path) -> None:
    found = read(tmp_path, {"a": ["1,5", "2,5"], "b": ["1,234", "2,345"], "c": ["1.000", "2.000"]}, ";")
    assert found.decimal == ","
    assert [column.values.tolist() for column in found.columns.values()] == [  # type: ignore[union-attr]
        [1.5, 2.5],
        [1.234, 2.345],
        [1000, 2000],
    ]


def test_the_operator_has_the_last_word(tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "id": list(range(30)),
        "rating": ["3.0", "4", "x"] * 10,
        "grade": ["3.0", "4", "3"] * 10,
        "flag": [0, 1, 1] * 10,
        "score": [0.1, 0.2, 0.3] * 10,
    }
    kinds = {"rating": "numeric", "grade": "categorical", "flag": "boolean", "id": "numeric"}
    found = read(tmp_path, columns, kinds=kinds, prediction="score", id="flag")
    assert found.roles == {"prediction": "score", "id": "flag"}
    assert list(found.columns) == ["id", "rating", "grade", "prediction"]
    assert found.columns["rating"].values[:3].tolist() == [3, 4, np.inf]  # type: ignore[union-attr]
    assert "10 rows are no numbers, as 'x'" in found.decisions["rating"].reason
    assert found.columns["grade"].levels == ["3", "4"]  # type: ignore[union-attr]  # as a live record spells it
    flags = read(tmp_path, columns, kinds={"flag": "boolean"}).columns["flag"]
    assert isinstance(flags, CategoricalColumn)
    assert flags.boolean
    assert sorted(flags.levels) == ["false", "true"]


@pytest.mark.parametrize("role", ["prediction", "timestamp", "id"])
def test_a_column_that_is_not_there_is_refused_with_those_that_are(role: str, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=rf"--{role} scroe: .*no such column; it has a, score"):
        read(tmp_path, {"a": [1, 2], "score": [3, 4]}, **{role: "scroe"})
    with pytest.raises(OperatorError, match=r"--ignore b: .*no such column; it has a, score"):
        read(tmp_path, {"a": [1, 2], "score": [3, 4]}, kinds={"b": "ignore"})


def test_json_keeps_the_types_that_it_has(tmp_path: Path) -> None:
    rows = [
        {"n": 1, "t": "49", "b": True, "mixed": 1, "z": "007", "list": [1], "p": {"no": 0.3, "yes": 0.7}, "nan": None},
        {"n": None, "t": 50, "b": False, "mixed": "x", "z": "1", "list": [2], "p": {"no": 0.6, "yes": 0.4}, "nan": 1},
        {"n": 2.5, "t": "NA", "b": None, "mixed": True, "z": "1", "p": {"no": 0.5, "yes": 0.5}, "late": 4},
    ]
    (path := tmp_path / "rows.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)).replace(b"null}", b"NaN}"))
    found = read_training([path], Reading(prediction="p"))
    kinds = {name: decision.kind for name, decision in found.decisions.items()}
    assert kinds == {
        "n": "numeric",
        "t": "numeric",
        "b": "boolean",
        "mixed": "categorical",
        "z": "categorical",
        "list": "nested",
        "p": "categorical",
        "nan": "constant",
        "late": "constant",
    }
    text = found.columns["t"]
    assert isinstance(text, NumericColumn)
    assert (text.text, text.markers) == (1, ("", "NA"))
    assert found.columns["mixed"].levels == ["1", "x", "true"]  # type: ignore[union-attr]
    assert found.columns["prediction"].codes.tolist() == [0, 1, 1]  # type: ignore[union-attr]


def test_documents_of_the_wire_form_give_their_features(tmp_path: Path) -> None:
    rows = [
        {"model": "m", "version": "1", "id": n, "features": {"a/b": n % 2 / 2, "c~": "x"}, "prediction": 0.5}
        for n in range(30)
    ]
    (path := tmp_path / "rows.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    found = read_training([path], Reading())
    assert list(found.columns) == ["a/b", "c~", "prediction"]


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text("0123456789.,+-eE_ xinfa", max_size=8), st.sampled_from(MARKERS)))
def test_what_python_reads_as_a_number_is_one_unless_it_is_a_code_or_no_value(text: str) -> None:
    try:
        expected = float(text)
    except ValueError:
        expected = np.nan
    bare = text.strip().lstrip("+-")
    coded = len(bare) > 1 and bare[0] == "0" and bare[1].isdigit()
    assert is_number(text) == (expected == expected and "_" not in text and not coded)  # noqa: PLR0124 - not NaN
    if is_number(text):
        assert number(text) == expected


@settings(max_examples=10, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(-(10**6), 10**6), st.booleans()), min_size=1, max_size=40))
def test_any_order_of_the_columns_gives_the_same_signals(
    rows: list[tuple[int, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("rows")
    columns: dict[str, Any] = {"n": [n for n, _ in rows], "b": [b for _, b in rows], "x": [0.5] * len(rows)}
    one = read(directory, columns).columns
    other = read(directory, dict(reversed(columns.items()))).columns
    assert one.keys() == other.keys()
    for name in one:
        assert fit("m", "v", {name: one[name]}).hash == fit("m", "v", {name: other[name]}).hash
