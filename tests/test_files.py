"""Tables from files: the same rows in every format are the same table, and what can't be read names the place."""

from __future__ import annotations

import csv
import gzip
import io
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import cramjam
import duckdb
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.detectors.baselines.fit import fit
from driftline.detectors.baselines.training import CategoricalColumn, NumericColumn
from driftline.detectors.errors import OperatorError
from driftline.streams.files.files import FORMS, opened
from driftline.streams.files.options import Reading
from driftline.streams.files.training_columns import Read, read_training

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Rows = list[dict[str, Any]]


def table(n: int = 60) -> Rows:
    """Rows with numbers, texts, booleans and missing values."""
    return [
        {
            "age": None if row % 7 == 0 else row * 1.5,
            "plan": None if row % 11 == 0 else ("basic", "pro", 'Größe, "x"')[row % 3],
            "is_new": row % 2 == 0,
            "score": row % 10 / 10,
        }
        for row in range(n)
    ]


def text_of(rows: Rows, delimiter: str = ",") -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(rows[0])
    writer.writerows(["" if value is None else value for value in row.values()] for row in rows)
    return out.getvalue()


def lines_of(rows: Rows) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def as_parquet(path: Path, rows: Rows) -> None:
    (source := path.with_name("source.jsonl")).write_bytes(lines_of(rows))
    duckdb.execute(f"COPY (FROM read_json('{source}')) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 20)")


WRITERS: dict[str, Callable[[Path, Rows], Any]] = {
    ".csv": lambda path, rows: path.write_text(text_of(rows)),
    ".tsv": lambda path, rows: path.write_text(text_of(rows, "\t")),
    ".txt": lambda path, rows: path.write_text(text_of(rows, "|")),
    ".json": lambda path, rows: path.write_bytes(orjson.dumps(rows)),
    ".jsonl": lambda path, rows: path.write_bytes(lines_of(rows)),
    ".ndjson": lambda path, rows: path.write_bytes(lines_of(rows)),
    ".parquet": as_parquet,
    ".pq": as_parquet,
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": lambda raw: bytes(cramjam.zstd.compress(raw)),
}


def read(path: Path, **told: Any) -> Read:
    return read_training([path], Reading(**told))


def values(found: Read, name: str) -> list[Any]:
    """A column's values, None where missing."""
    column = found.columns[name]
    if isinstance(column, NumericColumn):
        return [None if value != value else value for value in column.values.tolist()]  # noqa: PLR0124 - NaN
    return [None if code < 0 else column.levels[code] for code in column.codes.tolist()]


def test_every_format_has_a_writer_here() -> None:
    assert WRITERS.keys() == FORMS.keys()


@pytest.fixture(scope="module")
def expected() -> str:
    rows = table()
    plans = ["basic", "pro", 'Größe, "x"']
    nan = float("nan")
    columns: dict[str, NumericColumn | CategoricalColumn] = {
        "age": NumericColumn(_floats([nan if row["age"] is None else row["age"] for row in rows]), 0, ("",)),
        "plan": CategoricalColumn(plans, _codes([row["plan"] for row in rows], plans), markers=("",)),
        "is_new": CategoricalColumn(
            ["false", "true"],
            _codes([str(row["is_new"]).lower() for row in rows], ["false", "true"]),
            boolean=True,
            markers=("",),
        ),
        "prediction": NumericColumn(_floats([row["score"] for row in rows]), 0, ("",)),
    }
    return fit("m", "v", columns).hash


def _floats(found: Sequence[float]) -> Any:
    return np.array(found, float)


def _codes(found: Sequence[str | None], levels: Sequence[str]) -> Any:
    return np.array([-1 if each is None else levels.index(each) for each in found])


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("ending", WRITERS)
def test_the_same_rows_give_the_same_baseline_in_every_format(
    ending: str, packed: str, tmp_path: Path, expected: str
) -> None:
    if packed and ending in (".parquet", ".pq"):
        pytest.skip("Parquet packs itself")
    WRITERS[ending](path := tmp_path / f"rows{ending}", table())
    (packed_path := tmp_path / f"rows{ending}{packed}").write_bytes(PACKERS[packed](path.read_bytes()))
    found = read(packed_path, prediction="score")
    assert fit("m", "v", found.columns).hash == expected
    assert found.n == 60


def test_several_files_and_globs_are_one_table_in_the_order_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "b-1.csv").write_text("a,b\n1,x\n2,y\n")
    (tmp_path / "b-2.csv").write_text("b;a\nz;3\n")
    (tmp_path / "b[3].csv").write_text("a,b\n4,w\n")
    found = read_training([tmp_path / "b-*.csv", tmp_path / "b[3].csv"], Reading())
    assert values(found, "a") == [1, 2, 3, 4]
    assert values(found, "b") == ["x", "y", "z", "w"]
    (tmp_path / "b-2.csv").write_text("c;a\nz;3\n")
    with pytest.raises(OperatorError, match=r"b-2\.csv: has not the columns of the first file, but differs in b, c"):
        read_training([tmp_path / "b-*.csv"], Reading())
    with pytest.raises(OperatorError, match="no file is called so"):
        read_training([tmp_path / "none-*.csv"], Reading())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("packed", PACKERS)
def test_encodings_are_found_out(encoding: str, packed: str, tmp_path: Path) -> None:
    raw = "Straße,n\nKöln,1\nMünchen,2\nKöln,3\n".encode(encoding)
    (path := tmp_path / f"rows.csv{packed}").write_bytes(PACKERS[packed](raw))
    found = read(path)
    assert values(found, "Straße") == ["Köln", "München", "Köln"]
    assert bool(found.notes) == (not encoding.startswith("utf-8"))


@pytest.mark.parametrize(
    ("content", "names", "first"),
    [
        ("a;b\n1,5;2,5\n2,5;3,1\n", ["a", "b"], [1.5, 2.5]),
        ("sep=;\na;b\n1;2\n", ["a", "b"], [1.0, 2.0]),
        ("# made today\n# by me\na,b\n1,2\n3,4\n", ["a", "b"], [1.0, 2.0]),
        ("178,13,class_0,class_1\n1,2\n3,4\n5,6\n", ["column1", "column2"], [1.0, 2.0]),
        ("1,x\n2,y\n", ["column1", "column2"], [1.0, "x"]),
        ("a, b, c\n1, 2, x\n3, 4, y\n", ["a", "b", "c"], [1.0, 2.0, "x"]),
        ("a,b\n1,'x, y'\n2,'z'\n", ["a", "b"], [1.0, "x, y"]),
        ('a,b\n1,"x\\", y"\n2,"z"\n', ["a", "b"], [1.0, 'x", y']),
        ('a,b\r\n1,"x, ""y""\nz"\r\n\r\n2,w\r\n', ["a", "b"], [1.0, 'x, "y"\nz']),
        ("a,b\n1,2\r\n3,4\n", ["a", "b"], [1.0, 2.0]),
        ("a,b\r1,2\r3,4\r", ["a", "b"], [1.0, 2.0]),
        ("age\n1,5\n2,5\n", ["age"], [1.5]),
        ("city\nNew York\nParis\n", ["city"], ["New York"]),
        ('"a","b"\n"x",1,2\n"y",3,4\n', ["Unnamed: 0", "a", "b"], ["x", 1.0, 2.0]),
        ("59 2 32.1\n48 1 21.6\n", ["column1", "column2", "column3"], [59.0, 2.0, 32.1]),
        ("a,b\n1,2,\n3,4,\n", ["a", "b"], [1.0, 2.0]),
        ("Age,age\n1,2\n3,4\n", ["Age", "age"], [1.0, 2.0]),
        ("a'; DROP TABLE rows;--,b\n1,2\n", ["a'; DROP TABLE rows;--", "b"], [1.0, 2.0]),
    ],
)
def test_delimited_text_as_people_write_it(content: str, names: list[str], first: list[Any], tmp_path: Path) -> None:
    (path := tmp_path / "rows.csv").write_bytes(content.encode())
    found = read(path)
    assert list(found.columns) == names
    assert [values(found, name)[0] for name in names] == first


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.csv", b"a,b\n1,2\n3\n", "line 3: 1 cells for 2 columns"),
        ("rows.csv", b"a,b\n" + 1_500 * b"1,2\n" + b"3\n", "line 1502: 1 cells for 2 columns"),
        ("rows.csv", b"a,a\n1,2\n", "names a column twice"),
        ("rows.csv", b'a\n"x\n', "line 2: a quote that is opened is not closed"),
        ("rows.csv", b"", "no rows"),
        ("rows.csv", b"a,b\n1," + b"x" * 5_000_000 + b"\n", "line 2: is longer than 4194304 bytes"),
        ("rows.csv", gzip.compress(b"a,b\n1,2\n"), "is packed by gzip; let its name end in .gz"),
        ("rows.jsonl", b"{}\n{}\n", "its rows have no fields"),
        ("rows.csv", b"a,b\n", "no rows"),
        ("rows.csv.gz", b"a,b\n1,2\n", "Not a gzipped file"),
        ("rows.csv.zst", b"a,b\n1,2\n", "not packed by Zstandard"),
        ("rows.jsonl", b'{"a": 1}\n{"a": \n', "line 2: is no JSON"),
        ("rows.jsonl", b"[" * 100_000 + b"\n", "line 1: is no JSON"),
        ("rows.jsonl", b"[1]\n", "row 1: is no JSON object"),
        ("rows.parquet", b"PAR1", "no Parquet"),
        ("rows.xlsx", b"", ".xlsx is none of .csv"),
        ("rows", b"", "no ending is none of"),
    ],
)
def test_what_cannot_be_read_names_the_place(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (path := tmp_path / name).write_bytes(content)
    with pytest.raises(OperatorError, match="rows") as raised:
        read(path)
    assert said in str(raised.value)


def test_a_file_that_is_not_there_names_its_path(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"rows\.jsonl: No such file"):
        read(tmp_path / "rows.jsonl")
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(OperatorError, match="is a folder"):
        read(tmp_path / "x.csv")


def test_nothing_but_the_file_is_opened_and_nothing_is_fetched(tmp_path: Path) -> None:
    (other := tmp_path / "secret.csv").write_text("a\n1\n")
    (path := tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    with opened([path]) as found:
        for statement in (
            f"FROM read_csv('{other}')",
            f"COPY rows TO '{tmp_path / 'out.csv'}'",
            "INSTALL httpfs",
            "LOAD httpfs",
            "FROM 'https://example.com/a.csv'",
            "SET enable_external_access = true",
        ):
            with pytest.raises(duckdb.Error):
                found.query(statement)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["rows.csv", "secret.csv"]


def test_without_duckdb_the_remedy_is_named(tmp_path: Path) -> None:
    (path := tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    program = f"""
        import sys
        from driftline.detectors.errors import OperatorError
        from driftline.streams.files.files import opened
        assert "duckdb" not in sys.modules
        sys.modules["duckdb"] = None  # an import of it fails from here on
        try:
            with opened([{str(path)!r}]):
                pass
        except OperatorError as error:
            print(error)
    """
    told = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True)
    assert "pip install 'driftline[files]'" in told.stdout


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8).map(str.strip)


@settings(max_examples=20, deadline=None)
@given(
    rows=st.lists(st.tuples(st.floats(allow_nan=False), TEXTS), min_size=2, max_size=30),
    delimiter=st.sampled_from(",;\t|"),
)
def test_what_pythons_csv_module_writes_is_read_back(
    rows: list[tuple[float, str]], delimiter: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([("number", "text"), *rows])
    found = read(path, kinds={"number": "numeric", "text": "categorical"})
    assert values(found, "number") == [number for number, _ in rows]
    if any(text for _, text in rows):
        assert values(found, "text") == [text or None for _, text in rows]
