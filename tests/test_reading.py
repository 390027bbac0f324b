"""What the operator says about a file: options over a schema file, written by --suggest and read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from driftline.detectors.errors import OperatorError
from driftline.streams.cli.main import run
from driftline.streams.files.options import Reading, read_schema

if TYPE_CHECKING:
    from pathlib import Path

NAMED = ["--model", "m", "--version", "v"]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    lines = ['Unnamed: 0,age,zip,note \\ "x",score']
    lines += [f"{row},{row * 7 % 50},{row % 9:03d},n{row % 3},{row % 10 / 10}" for row in range(100)]
    (path := tmp_path / "train.csv").write_text("\n".join(lines).replace('note \\ "x"', '"note \\ ""x"""'))
    return path


def built(rows: Path, out: Path, *options: str) -> bytes:
    assert run(["baseline", "build", str(rows), *NAMED, *options, "--out", str(out)]) == 0
    return out.read_bytes()


def test_what_is_suggested_and_left_alone_makes_the_same_baseline(rows: Path, tmp_path: Path) -> None:
    without = built(rows, tmp_path / "without.json", "--prediction", "score")
    assert run(["baseline", "build", str(rows), *NAMED, "--prediction", "score", "--suggest"]) == 0
    beside = tmp_path / "train.csv.schema.toml"
    text = beside.read_text()
    assert 'prediction = "score"' in text
    assert '"Unnamed: 0" = "ignore"  # index: whole numbers that never repeat' in text
    assert built(rows, tmp_path / "with.json") == without
    beside.rename(tmp_path / "elsewhere.toml")
    assert built(rows, tmp_path / "named.json", "--schema", str(tmp_path / "elsewhere.toml")) == without


def test_what_is_edited_is_obeyed_and_options_go_over_it(rows: Path, tmp_path: Path) -> None:
    run(["baseline", "build", str(rows), *NAMED, "--prediction", "score", "--suggest"])
    beside = tmp_path / "train.csv.schema.toml"
    beside.write_text(beside.read_text().replace('"age" = "numeric"', '"age" = "categorical"'))
    signals = built(rows, tmp_path / "edited.json")
    assert b'"age":{"type":"categorical"' in signals
    assert b'"age":{"type":"numeric"' in built(rows, tmp_path / "over.json", "--numeric", "age")
    assert b'"age"' not in built(rows, tmp_path / "over.json", "--ignore", "age,zip")


def test_lists_are_separated_by_commas_or_given_more_than_once(rows: Path, tmp_path: Path) -> None:
    one = built(rows, tmp_path / "one.json", "--ignore", "age,zip")
    assert built(rows, tmp_path / "two.json", "--ignore", "age", "--ignore", "zip") == one


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ignore", "aeg"], "--ignore aeg: "),
        (["--ignore", "age", "--numeric", "age"], "--numeric and --ignore both name age"),
        (["--prediction", "scroe"], "no such column; it has Unnamed: 0, age"),
        (["--schema", "/no/such.toml"], "/no/such.toml: No such file or directory; write one with"),
        (["--ignore", "Unnamed: 0,age,zip,score", "--ignore", 'note \\ "x"'], "no column is a signal"),
    ],
)
def test_what_is_wrong_is_named(
    options: list[str], said: str, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["baseline", "build", str(rows), *NAMED, *options, "--out", str(tmp_path / "x.json")]) == 2
    assert said in capsys.readouterr().err


def test_either_a_baseline_or_a_suggestion_is_made(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["baseline", "build", str(rows), *NAMED]) == 2
    assert "--out FILE makes the baseline, --suggest a file to edit first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("age = ", "is no TOML"),
        (
            "numeric = 'age'",
            "numeric: no such key; there are prediction, timestamp, id, decimal, na, sensitive, columns",
        ),
        ("columns = ['age']", "columns must be a table"),
        ("na = 'NA'", "na must be a list"),
        ("na = [1]", "na = 1: must be a text"),
        ("[columns]\nage = 'number'", "age = 'number': must be a text; of a column, numeric, categorical"),
        ("decimal = ';'", "decimal = ';': must be . or ,"),
    ],
)
def test_a_schema_file_that_is_wrong_names_the_key(text: str, said: str, tmp_path: Path) -> None:
    (path := tmp_path / "rows.schema.toml").write_text(text)
    with pytest.raises(OperatorError, match=r"rows\.schema\.toml: ") as raised:
        read_schema(path)
    assert said in str(raised.value)


def test_a_file_of_predictions_may_lack_columns_of_the_schema_file_but_not_of_the_call() -> None:
    general = Reading(kinds={"truth": "ignore", "age": "numeric"}, lenient=frozenset({"truth", "age"}))
    reading = Reading(kinds={"age": "categorical"}).over(general)
    assert reading.checked(["age"], "log.csv", may_lack=True) == reading
    with pytest.raises(OperatorError, match=r"--categorical age: log\.csv has no such column"):
        reading.checked(["x"], "log.csv", may_lack=True)
    with pytest.raises(OperatorError, match=r"--ignore truth: log\.csv has no such column"):
        reading.checked(["age"], "log.csv")
