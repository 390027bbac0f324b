"""JSON documents as columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from driftline.detectors.documents.baseline import PREDICTION
from driftline.detectors.errors import OperatorError
from driftline.streams.files.table import Column

if TYPE_CHECKING:
    from driftline.streams.files.table import Stored, Table


def spread(table: Table) -> None:
    """Turn a table of documents into one with a column per key, in the order in which the keys first appear.

    Where every document has an object ``features``, its keys are the columns, and ``prediction`` is one more.
    """
    [[documents]] = table.query("SELECT count(*) FROM rows WHERE json_type(doc, '$.features') = 'OBJECT'").fetchall()
    if documents == table.n:
        names = _keys(table, "doc->'features'")
        pointers = [_pointer("features", name) for name in names]
        names, pointers = [*names, PREDICTION], [*pointers, _pointer(PREDICTION)]
    else:
        names = _keys(table, "doc")
        pointers = list(map(_pointer, names))
    if not names:
        raise OperatorError(f"{table.name}: its rows have no fields")
    chosen = ", ".join(f"l[{place}] AS c{place - 1}" for place in range(1, len(names) + 1))
    table.query(f"CREATE TABLE spread AS SELECT {chosen} FROM (SELECT json_extract(doc, ?) AS l FROM rows)", [pointers])
    table.query("DROP TABLE rows")
    table.query("ALTER TABLE spread RENAME TO rows")
    table.columns = [_column(table, name, f"c{place}") for place, name in enumerate(names)]


def keyed(table: Table) -> None:
    """Name the keys of a table of documents as its columns, without making a column of each."""
    table.columns = [
        Column(name, f"json_extract(doc, '{_pointer(name).replace(chr(39), 2 * chr(39))}')::JSON", "text")
        for name in _keys(table, "doc")
    ]


def _keys(table: Table, document: str) -> list[str]:
    """Keys of all documents, those of the first document first."""
    listed = f"SELECT rowid AS r, json_keys({document}) AS k FROM rows"
    one = f"SELECT r, unnest(k) AS key, generate_subscripts(k, 1) AS p FROM ({listed})"
    found = table.query(f"SELECT key FROM ({one}) GROUP BY key ORDER BY min((r, p))").fetchall()
    return [key for (key,) in found]


def _pointer(*keys: str) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in keys)


def _column(table: Table, name: str, place: str) -> Column:
    """A column by the types of its values; where numbers, texts or booleans are mixed, it is one of texts."""
    found = table.query(f"SELECT json_type({place}), count(*) FROM rows GROUP BY 1").fetchall()
    counts = {kind: n for kind, n in found if kind not in (None, "NULL")}
    stored: Stored = "text"
    if counts.keys() & {"OBJECT", "ARRAY"}:
        stored = "nested"
    elif counts.keys() == {"BOOLEAN"}:
        stored = "boolean"
    elif counts and not counts.keys() & {"BOOLEAN", "VARCHAR"}:
        stored = "number"
    return Column(name, f"{place}::JSON", stored, counts.get("VARCHAR", 0))
