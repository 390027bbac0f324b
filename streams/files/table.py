"""A table that was read from files: its columns, and DuckDB's connection to its rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PACKED = (".gz", ".zst")
Form = Literal["delimited", "json", "parquet"]
Stored = Literal["text", "number", "boolean", "time", "nested"]
"""How a file stores a column. In delimited text every column is text."""


class Column(NamedTuple):
    """A column of a table.

    Parameters
    ----------
    name
        As the file has it.
    sql
        Expression for its value in table ``rows``: of type VARCHAR where it is text, JSON where a JSON file has it.
    stored
        How it is stored.
    quoted
        Values that are text in a format that has numbers as well.
    """

    name: str
    sql: str
    stored: Stored
    quoted: int = 0

    @property
    def text(self) -> str:
        """Expression for its value as text."""
        return f"({self.sql}->>'$')" if self.is_json else f"{self.sql}::VARCHAR"

    @property
    def is_json(self) -> bool:
        """Whether its values are JSON, with types of their own."""
        return self.sql.endswith("::JSON")


@dataclass
class Table:
    """An open table.

    Parameters
    ----------
    connection
        DuckDB's, with a table ``rows``.
    form
        What kind of file it comes from. Of JSON, ``rows`` has one column, ``doc``, until ``json_columns`` was called.
    columns
        Its columns; none of JSON.
    n
        Rows.
    notes
        What the reader of the file should know.
    name
        The files, for messages.
    """

    connection: Any
    form: Form
    columns: list[Column]
    n: int
    name: str
    notes: list[str] = field(default_factory=list)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """Run a statement."""
        return self.connection.execute(sql, list(parameters))


def ending(path: Path) -> str:
    """Ending that tells a file's format, without that of its packing.

    Examples
    --------
    >>> from pathlib import Path
    >>> ending(Path("a.CSV.gz")), ending(Path("b.parquet")), ending(Path("c.gz"))
    ('.csv', '.parquet', '')
    """
    bare = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return bare.suffix.lower()


def quoted(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"
