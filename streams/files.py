"""Rows from files: CSV, JSON Lines and Parquet, read as a stream.

A file's format is told by its name's ending. Rows come in two shapes: flat, a column per feature, or as prediction
documents with ``features`` of their own. NaN is a missing value wherever it stands; infinities stay what they are.
"""

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from driftline.detectors.baseline import PREDICTION
from driftline.detectors.errors import OperatorError
from driftline.detectors.records import Value

IDENTITY = ("model", "version", "id", "timestamp")
"""Columns that tell which prediction a row is; they are no signals."""

Row = Mapping[str, Any]
Output = Value | dict[str, float]


def read_columns(path: Path, prediction: str | None = None) -> dict[str, list[Output]]:
    """Read the columns of a file of training rows.

    Parameters
    ----------
    path
        The file.
    prediction
        Column that holds the model's output; from here on it is named ``prediction``. None: the column of that name,
        if there is one.

    Returns
    -------
    Signal to its n values, None where missing. What tells a row's identity is left out.

    Raises
    ------
    OperatorError
        Where the file can't be read or has no such column.
    """
    columns: dict[str, list[Output]] = {}
    n = 0
    for n, row in enumerate(rows(path), start=1):
        body = row["features"] | {PREDICTION: row.get(PREDICTION)} if _is_document(row) else row
        for name, value in body.items():
            if name not in IDENTITY:
                signal = columns.setdefault(name, [None] * (n - 1))
                signal.append(_value(value, f"{path}, row {n}: {name}"))
        for signal in columns.values():
            if len(signal) < n:
                signal.append(None)
    if not n:
        raise OperatorError(f"{path}: has no rows")
    return columns if prediction in (None, PREDICTION) else _renamed(columns, str(prediction), path)


def _renamed(columns: dict[str, list[Output]], prediction: str, path: Path) -> dict[str, list[Output]]:
    """Columns with the named one as the prediction."""
    if prediction not in columns:
        raise OperatorError(f"--prediction {prediction}: {path} has no such column; it has {', '.join(columns)}")
    if PREDICTION in columns:
        raise OperatorError(f"--prediction {prediction}: {path} has a column {PREDICTION} too; rename or drop one")
    return {name: values for name, values in columns.items() if name != prediction} | {PREDICTION: columns[prediction]}


def read_predictions(path: Path, model: str | None, version: str | None) -> Iterator[dict[str, Any]]:
    """Read prediction documents, in the order of the file.

    Parameters
    ----------
    path
        The file. In flat rows ``prediction``, ``model``, ``version``, ``id`` and ``timestamp`` are the document's own
        fields and every other column is a feature. Documents of either wire form pass as they are.
    model, version
        Of rows that do not tell; None where all do.

    Yields
    ------
    Documents in the wire form.

    Raises
    ------
    OperatorError
        Where the file can't be read or a row does not tell its model.
    """
    default = {name: told for name, told in (("model", model), ("version", version)) if told is not None}
    for n, row in enumerate(rows(path), start=1):
        if "input" in row and "output" in row:
            yield {"model": model, **row} if model is not None else dict(row)
            continue
        document = default | (_spelled_out(row) if _is_document(row) else _document(row, f"{path}, row {n}"))
        if not {"model", "version"} <= document.keys():
            raise OperatorError(f"{path}, row {n}: tells no model and version; give --model and --version")
        yield document


def _spelled_out(row: Row) -> dict[str, Any]:
    return {**row, "features": {name: _spelled(value) for name, value in row["features"].items()}}


def _is_document(row: Row) -> bool:
    return isinstance(row.get("features"), dict)


def _document(row: Row, place: str) -> dict[str, Any]:
    """A flat row as a document; JSON has no infinity, so it is spelled out."""
    values = {name: _spelled(_value(value, f"{place}: {name}")) for name, value in row.items()}
    own = {name: value for name in IDENTITY if (value := values.pop(name, None)) is not None}
    own |= {name: str(own[name]) for name in ("model", "version") if name in own}
    prediction = values.pop(PREDICTION, None)
    return own | {"features": values, PREDICTION: prediction}


def _spelled(value: Output) -> Output:
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _value(value: Any, place: str) -> Output:
    """One value as JSON has it, whatever the file's own types."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int | float | Decimal):
        return None if math.isnan(value) else value if isinstance(value, int) else float(value)
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    if isinstance(value, dict) and value and all(isinstance(each, int | float) for each in value.values()):
        return value
    raise OperatorError(f"{place}: a {type(value).__name__} is neither a number, a string, a boolean nor null")


def count_rows(path: Path) -> int:
    """Count the rows of a file without keeping any."""
    with _explained(path):
        return _format(path).count(path)


def rows(path: Path) -> Iterator[Row]:
    """Read a file row by row; a row maps column to value.

    Raises
    ------
    OperatorError
        Naming the file, the place and the remedy.
    """
    with _explained(path):
        yield from _format(path).read(path)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what reading raises into the operator's error."""
    try:
        yield
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise OperatorError(f"{path}: is not UTF-8 ({error.reason}); convert it first") from error
    except csv.Error as error:
        raise OperatorError(f"{path}: is no CSV file: {error}") from error


def cell_value(text: str) -> Value:
    """Read a CSV cell: empty or NaN is missing, a number is a number, anything else stays text.

    Examples
    --------
    >>> [cell_value(text) for text in ("", "nan", "1.50", "true", "1_000", "1e999")]
    [None, None, 1.5, 'true', '1_000', inf]
    """
    try:
        number = float(text)
    except ValueError:
        return text or None
    if "_" in text:  # Python alone reads it as a number
        return text
    return None if math.isnan(number) else number


def _csv_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise OperatorError(f"{path}: its header names a column twice: {', '.join(header)}")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise OperatorError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells for {len(header)} columns; mend it"
                )
            yield {
                name: _identity(name, text) if name in IDENTITY else cell_value(text)
                for name, text in zip(header, cells, strict=True)
            }


def _identity(name: str, text: str) -> str | int | float | None:
    """A cell that tells identity stays text; a time that is a number becomes one, whole where it can (ns need it)."""
    if name != "timestamp":
        return text or None
    try:
        return int(text)
    except ValueError:
        value = cell_value(text)
        return value if value is None or isinstance(value, float) else text


def _csv_count(path: Path) -> int:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return max(0, sum(1 for cells in csv.reader(file, strict=True) if cells) - 1)


def _json_rows(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            row = _parsed(line, f"{path}, line {number}")
            if not isinstance(row, dict):
                raise OperatorError(
                    f"{path}, line {number}: is no JSON object; a row is an object on a line of its own"
                )
            yield row


def _parsed(line: bytes, place: str) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:  # it may still hold NaN or Infinity, as Python's own writer has them
        try:
            return json.loads(line, parse_int=_whole)
        except (ValueError, RecursionError) as error:
            raise OperatorError(f"{place}: is no JSON: {error}") from error


def _whole(text: str) -> int | float:
    """A whole number; beyond 64 bits it is as good as infinite and takes no time to parse."""
    return int(text) if len(text) < 20 else float(text)


def _json_count(path: Path) -> int:
    with path.open("rb") as file:
        return sum(not line.isspace() for line in file)


def _parquet_rows(path: Path) -> Iterator[Row]:
    for batch in _parquet_file(path).iter_batches(batch_size=4096):
        yield from batch.to_pylist()


def _parquet_count(path: Path) -> int:
    return int(_parquet_file(path).metadata.num_rows)


def _parquet_file(path: Path) -> Any:
    try:
        import pyarrow.parquet as pq  # noqa: PLC0415 - an extra, and 200 ms to import
    except ImportError as error:
        raise OperatorError(f"{path}: Parquet needs pyarrow: pip install 'driftline[parquet]'") from error
    try:
        return pq.ParquetFile(path)
    except ValueError as error:
        raise OperatorError(f"{path}: is no Parquet file: {error}") from error


class _Format(NamedTuple):
    read: Callable[[Path], Iterator[Row]]
    count: Callable[[Path], int]


def _format(path: Path) -> _Format:
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise OperatorError(f"{path}: {path.suffix or 'no ending'} is none of {', '.join(FORMATS)}") from None


FORMATS: Mapping[str, _Format] = {
    ".csv": _Format(_csv_rows, _csv_count),
    ".jsonl": _Format(_json_rows, _json_count),
    ".ndjson": _Format(_json_rows, _json_count),
    ".parquet": _Format(_parquet_rows, _parquet_count),
}
