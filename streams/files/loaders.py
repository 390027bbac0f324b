"""Loading files into a table of DuckDB: delimited text, JSON and Parquet, and what is said where that fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from driftline.detectors.errors import OperatorError
from driftline.streams.files.csv_dialect import DELIMITERS, Dialect, dialect_of
from driftline.streams.files.table import Column, Form, Stored, ending, quoted
from driftline.streams.files.text_encoding import first_lines, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINE, MAX_DOCUMENT = 4 * 2**20, 16 * 2**20
"""Bytes of one line of text and of one JSON document; DuckDB reserves a multiple of them."""


def _load_delimited(connection: Any, files: Sequence[tuple[Path, Path]], notes: list[str]) -> list[Column]:
    """Read text files, each with a dialect of its own and all with the same columns."""
    names: tuple[str, ...] = ()
    for path, readable in files:
        found = dialect_of(first_lines(readable), "\t" if ending(path) == ".tsv" else DELIMITERS)
        if found is None:
            raise OperatorError(f"{path}: has no rows")
        if repeated := [name for name in found.names if found.names.count(name) > 1]:
            raise OperatorError(f"{path}: its header names a column twice: {repeated[0]}; rename one")
        names = _same(path, found.names, names)
        notes += _remarks(path, found)
        source = f"(SELECT {'ltrim(COLUMNS(*))' if found.strip else '*'} FROM {_read_csv(readable, found)})"
        _insert(connection, path, source, [found.names.index(name) for name in names])
    return [Column(name, f"c{place}", "text") for place, name in enumerate(names)]


def _same(path: Path, names: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The names wanted, if a file has them in any order."""
    if wanted and set(names) != set(wanted):
        odd = ", ".join(sorted(set(names) ^ set(wanted)))
        raise OperatorError(f"{path}: has not the columns of the first file, but differs in {odd}")
    return wanted or names


def _remarks(path: Path, dialect: Dialect) -> Iterator[str]:
    if dialect.before:
        yield f"{path}: what stands before the table is left out: {dialect.before[:60]!r}"
    if not dialect.has_header:
        yield f"{path}: has no header; its columns are {dialect.names[0]} to {dialect.names[-1]}"


def _read_csv(path: Path, dialect: Dialect) -> str:
    names = ", ".join(f"'c{place}': 'VARCHAR'" for place in range(len(dialect.names)))
    options = {"delim": dialect.delimiter, "quote": dialect.quote, "escape": dialect.escape}
    said = ", ".join(f"{name} = {quoted(value)}" for name, value in options.items())
    strict = "strict_mode = false" if _mixes_line_ends(path) else "strict_mode = true"
    read = f"read_csv({quoted(str(path))}, columns = {{{names}}}, {said}, {strict}, skip = {dialect.skip}"
    return f"{read}, auto_detect = false, header = false, max_line_size = {MAX_LINE})"


def _mixes_line_ends(path: Path) -> bool:
    r"""Whether lines end by \r\n as well as by \n, outside or inside of quotes; DuckDB's strict mode takes only one."""
    start = "".join(first_lines(path))
    return 0 < start.count("\r\n") < start.count("\n")


def _insert(connection: Any, path: Path, source: str, order: Sequence[int]) -> None:
    """Add a file's rows to table ``rows``, which the first file makes."""
    [[exists]] = connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'rows'").fetchall()
    chosen = ", ".join(f"c{place} AS c{new}" for new, place in enumerate(order))
    with _explained(path):
        connection.execute(f"{'INSERT INTO rows' if exists else 'CREATE TABLE rows AS'} SELECT {chosen} FROM {source}")


def _load_json(connection: Any, files: Sequence[tuple[Path, Path]], notes: list[str]) -> list[Column]:  # noqa: ARG001 - one signature for all
    """Read documents: one a line, one after another, or the elements of an array."""
    connection.execute("CREATE TABLE rows (doc JSON)")
    for path, readable in files:
        read = f"read_json_objects({quoted(str(readable))}, maximum_object_size = {MAX_DOCUMENT})"
        with _explained(path):
            connection.execute(f"INSERT INTO rows SELECT json FROM {read}")
        odd = connection.execute("SELECT rowid FROM rows WHERE json_type(doc) <> 'OBJECT' LIMIT 1").fetchall()
        if odd:
            raise OperatorError(f"{path}, row {odd[0][0] + 1}: is no JSON object; a row is an object")
    return []


def _load_parquet(connection: Any, files: Sequence[tuple[Path, Path]], notes: list[str]) -> list[Column]:  # noqa: ARG001 - likewise
    """Read Parquet files with the same columns."""
    columns: list[Column] = []
    for path, readable in files:
        name = quoted(str(readable))
        with _explained(path):
            schema = connection.execute(f"SELECT name, num_children FROM parquet_schema({name})").fetchall()
            types = connection.execute(
                f"DESCRIBE SELECT * FROM read_parquet({name}, hive_partitioning = false)"
            ).fetchall()
        names = _top_level(schema)
        if repeated := [each for each in names if names.count(each) > 1]:
            raise OperatorError(f"{path}: names a column twice: {repeated[0]}; rename one")
        wanted = _same(path, tuple(names), tuple(column.name for column in columns))
        new = ", ".join(f"c{place}" for place in range(len(names)))
        source = f"(SELECT * FROM read_parquet({name}, hive_partitioning = false)) AS t({new})"
        _insert(connection, path, source, [names.index(each) for each in wanted])
        stored = [_stored(kind) for _, kind, *_ in types]
        values = [
            f"{each}::DOUBLE" if kind == "FLOAT" else each
            for each, (_, kind, *_) in zip(new.split(", "), types, strict=True)
        ]
        columns = columns or [Column(*each) for each in zip(names, values, stored, strict=True)]
    return [_with_texts(connection, column) for column in columns]


def _top_level(schema: Sequence[tuple[str, int | None]]) -> list[str]:
    """Names of the columns of a Parquet schema, which lists fields depth first, the root before all."""

    def after(place: int) -> int:
        children, place = schema[place][1] or 0, place + 1
        for _ in range(children):
            place = after(place)
        return place

    names, place = [], 1
    while place < len(schema):
        names.append(schema[place][0])
        place = after(place)
    return names


def _with_texts(connection: Any, column: Column) -> Column:
    """A column with the number of its texts."""
    if column.stored != "text":
        return column
    [[n]] = connection.execute(f"SELECT count({column.sql}) FROM rows").fetchall()
    return column._replace(quoted=n)


def _stored(kind: str) -> Stored:
    """How a column of one of DuckDB's types is stored."""
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION", "BLOB", "JSON", "BIT", "GEOMETRY", "VARIANT")):
        return "nested"
    if kind.startswith(("DATE", "TIME", "INTERVAL")):
        return "time"
    if kind.startswith(("VARCHAR", "ENUM", "UUID")):
        return "text"
    return "boolean" if kind == "BOOLEAN" else "number"


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what DuckDB says of a file into the operator's error: where, and what is wrong there."""
    import duckdb  # noqa: PLC0415 - see `_connection`

    try:
        yield
    except duckdb.Error as error:
        raise OperatorError(f"{path}{_problem(path, str(error))}") from error


_CAUSES = {
    "unterminated quote": "a quote that is opened is not closed",
    "Maximum line size": f"is longer than {MAX_LINE} bytes, as it is where a quote is not closed",
}
"""What DuckDB says of a line of text, and what it means."""


def _problem(path: Path, said: str) -> str:
    """The place and the reason of an error of DuckDB's."""
    if line := re.search(r"CSV Error on Line: (\d+)", said):
        if width := re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", said):
            return f", line {line[1]}: {width[2]} cells for {width[1]} columns; mend it"
        # DuckDB shows the line itself too, whose values are nobody's business.
        cause = next((cause for sign, cause in _CAUSES.items() if sign in said), "can't be split into cells")
        return f", line {line[1]}: {cause}; mend it"
    if "JSON" in said:
        return _json_problem(path) or f": is no JSON: {said.splitlines()[0][-200:]}"
    if "arquet" in said or "magic bytes" in said or "too small" in said:
        return f": is no Parquet file: {said.splitlines()[0]}"
    return f": can't be read: {said.splitlines()[0]}"


def _json_problem(path: Path) -> str:
    """The first line that is no JSON, if documents stand one a line."""
    with unpacked(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                orjson.loads(re.sub(rb"-?\b(NaN|Infinity)\b", b"0", line) if line.strip() else b"0")
            except orjson.JSONDecodeError as error:
                return f", line {number}: is no JSON: {error}"
    return ""


Loader = Callable[[Any, Sequence[tuple[Path, Path]], list[str]], list[Column]]
"""Loads (file, what is read of it) over a connection into table ``rows``, adds notes, and returns the columns."""

LOADERS: Mapping[Form, Loader] = {"delimited": _load_delimited, "json": _load_json, "parquet": _load_parquet}
