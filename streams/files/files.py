"""Tables in files, read by DuckDB: delimited text, JSON and Parquet, one or many files, packed or not.

DuckDB reads the files named and nothing else: it may open no other path, loads no extension and reaches no network. Its
tables lie in memory, and beyond 1 GB in a temporary folder, so a file may be larger than the memory.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftline.detectors.errors import OperatorError
from driftline.streams.files.loaders import LOADERS
from driftline.streams.files.table import Form, Table, ending, quoted
from driftline.streams.files.text_encoding import as_utf8

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MEMORY = "1GB"


@contextmanager
def opened(patterns: Sequence[str | Path]) -> Iterator[Table]:
    """Open files of one form as one table, in the order of the files.

    Parameters
    ----------
    patterns
        Paths; one that does not exist may be a glob.

    Raises
    ------
    OperatorError
        Naming the file, the place in it and the remedy.
    """
    paths = _paths(patterns)
    form = _form(paths)
    name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    with tempfile.TemporaryDirectory(prefix="driftline-") as folder:
        notes: list[str] = []
        readable = [_readable(path, form, Path(folder), notes) for path in paths]
        connection = _connection(readable, Path(folder))
        try:
            columns = LOADERS[form](connection, list(zip(paths, readable, strict=True)), notes)
            [[n]] = connection.execute("SELECT count(*) FROM rows").fetchall()
            if not n:
                raise OperatorError(f"{name}: has no rows")
            yield Table(connection, form, columns, n, name, notes)
        finally:
            connection.close()


def _paths(patterns: Sequence[str | Path]) -> list[Path]:
    found: list[Path] = []
    for pattern in map(str, patterns):
        matches = [pattern] if Path(pattern).exists() or not has_magic(pattern) else sorted(glob(pattern))  # noqa: PTH207
        if not matches:
            raise OperatorError(f"{pattern}: no file is called so")
        found += map(Path, matches)
    for path in found:
        if path.is_dir() or not path.exists():
            raise OperatorError(f"{path}: {'is a folder' if path.is_dir() else 'No such file or directory'}")
    return found


def _form(paths: Sequence[Path]) -> Form:
    forms = {path: FORMS.get(ending(path)) for path in paths}
    for path, form in forms.items():
        if form is None:
            raise OperatorError(
                f"{path}: {ending(path) or 'no ending'} is none of {', '.join(FORMS)}, nor one of these with .gz or .zst"
            )
    [first, *others] = dict.fromkeys(forms.values())
    if others:
        raise OperatorError(f"{paths[0]} and others: are of several formats; give files of one")
    assert first is not None
    return first


def _readable(path: Path, form: Form, folder: Path, notes: list[str]) -> Path:
    """The file, or a copy of it that DuckDB reads."""
    readable = path
    if form != "parquet":
        try:
            readable, encoding = as_utf8(path, folder)
        except (OSError, EOFError) as error:
            raise OperatorError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
        if encoding != "utf-8":
            notes.append(f"{path}: is read as {encoding}")
    if not has_magic(str(readable)):
        return readable
    link = folder / f"{len(list(folder.iterdir()))}{''.join(path.suffixes[-2:])}"  # DuckDB would take it for a glob
    link.symlink_to(readable.resolve())
    return link


def _connection(paths: Sequence[Path], folder: Path) -> Any:
    """A DuckDB that can read these files, write its overflow into a folder, and nothing else."""
    try:
        import duckdb  # noqa: PLC0415 - an extra, and 0.2 s to import
    except ImportError as error:
        raise OperatorError("files are read by DuckDB: pip install 'driftline[files]'") from error
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
            "memory_limit": MEMORY,
            "temp_directory": str(folder / "overflow"),
        }
    )
    names = ", ".join(map(quoted, [str(path) for path in paths]))
    connection.execute(f"SET allowed_paths = [{names}]")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


FORMS: Mapping[str, Form] = {
    ".csv": "delimited",
    ".tsv": "delimited",
    ".txt": "delimited",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
