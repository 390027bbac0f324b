"""How a CSV file is written, decided on its first records: delimiter, quotes, what precedes the table, the header.

DuckDB's own sniffer reads ``a;b / 1,5;2,5`` as three columns without a header and turns a record that is too short into
a file of one column, both without a word. So this module decides, by rules that can be stated, and DuckDB reads.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from driftline.streams.formats.numerals import DECIMAL_COMMA, is_marker, is_number

if TYPE_CHECKING:
    from collections.abc import Sequence

DELIMITERS = ",;\t| "
RECORDS = 1_000
"""Records that the decision is made on, at most."""
MOST_BEFORE = 20
"""Records of another width than the table's that may precede it."""


@dataclass(frozen=True)
class Dialect:
    r"""How a CSV file is written.

    Parameters
    ----------
    delimiter, quote, escape
        One character each. ``escape`` is the quote where quotes are doubled.
    skip
        Records before the first one that holds values: the header and what precedes it.
    names
        Names of the columns.
    before
        First record of what precedes the table and is left out; empty where nothing does.
    has_header
        Whether the names were read from the file. If not, they are column1, column2 and so on.
    strip
        Whether a blank follows each delimiter, so that texts lose it.
    """

    delimiter: str
    quote: str
    escape: str
    skip: int
    names: tuple[str, ...]
    before: str = ""
    has_header: bool = True
    strip: bool = False


def dialect_of(lines: Sequence[str], delimiters: str = DELIMITERS) -> Dialect | None:
    r"""Decide how a file is written.

    Of all delimiters the one is taken that gives the most records of one width above 1; among equals the first of
    comma, semicolon, tab, bar and blank. There is a header unless each column of numbers begins with a number, or, where no
    column is one of numbers, each first text occurs again below.

    Parameters
    ----------
    lines
        The first lines with their ends, the last of them complete.
    delimiters
        Which delimiters are possible.

    Returns
    -------
    The dialect; None for a file without a record.

    Examples
    --------
    >>> found = dialect_of(["a;b\n", "1,5;2,5\n"])
    >>> found.delimiter, found.names, found.skip
    (';', ('a', 'b'), 1)
    >>> dialect_of(["1,x\n", "2,y\n"]).names
    ('column1', 'column2')
    """
    named, lines = _named_delimiter(lines[: 2 * RECORDS])
    best, best_rank = None, (-1.0, 0)
    for delimiter in named or delimiters:
        for quote, escape in (('"', '"'), ("'", "'"), ('"', "\\")):
            records = _records(lines, delimiter, quote, escape)
            if not any(records):
                return None
            is_plausible = quote == '"' or _is_quoted(lines, delimiter, quote)
            if delimiter == " ":
                is_plausible = is_plausible and _is_cut_by_blanks(records)
            share = _agreement(records) if is_plausible and not _is_one_column(records) else 0.0
            rank = (share, 0 if share else -max(map(len, records)))  # where none agrees, the one that cuts least
            if rank > best_rank:
                best, best_rank = (delimiter, quote, escape, records), rank
    assert best is not None
    return _described(*best, lead=1 if named else 0)


def _named_delimiter(lines: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The delimiter that a first line ``sep=;`` names, as Excel takes it, and the other lines."""
    first = lines[0].strip() if lines else ""
    return (first[4], lines[1:]) if len(first) == 5 and first.lower().startswith("sep=") else ("", lines)


def _records(lines: Sequence[str], delimiter: str, quote: str, escape: str) -> list[list[str]]:
    """First records of a file, blank lines as empty ones; one that is too long for the csv module ends them."""
    form = {"doublequote": True} if escape == quote else {"doublequote": False, "escapechar": escape}
    reader = csv.reader(lines, delimiter=delimiter, quotechar=quote, **form)
    found: list[list[str]] = []
    try:
        for record in reader:
            found.append(record)
            if len(found) == RECORDS:
                break
    except csv.Error:
        pass
    return found


def _agreement(records: Sequence[Sequence[str]]) -> float:
    """Share of the records that have the most frequent width; 0 where that is one column."""
    widths = Counter(len(record) for record in records if record)
    width, n = max(widths.items(), key=lambda item: (item[1], item[0]))
    return n / widths.total() if width > 1 else 0.0


def _is_one_column(records: Sequence[Sequence[str]]) -> bool:
    """Whether what was cut are numbers with a decimal comma below the name of their only column."""
    first, *others = [record for record in records if record]
    return len(first) == 1 and all(re.fullmatch(DECIMAL_COMMA, ",".join(each).strip()) for each in others)


def _is_cut_by_blanks(records: Sequence[Sequence[str]]) -> bool:
    """Whether blanks separate columns, not words: all records have one width, and one column holds numbers."""
    full = [record for record in records if record]
    return _agreement(full) == 1 and any(map(_is_numeric, zip(*full[1:], strict=True)))


def _is_quoted(lines: Sequence[str], delimiter: str, quote: str) -> bool:
    """Whether a character is used as the quote: it opens and closes fields, and the usual one opens none."""
    opened = sum(line.count(delimiter + quote) + line.startswith(quote) for line in lines)
    closed = sum(line.count(quote + delimiter) + line.rstrip("\r\n").endswith(quote) for line in lines)
    usual = any(delimiter + '"' in line or line.startswith('"') for line in lines)
    return opened > 0 and opened == closed and not usual


def _described(delimiter: str, quote: str, escape: str, records: Sequence[list[str]], lead: int) -> Dialect:
    """The dialect of records that were read by it."""
    full = [record for record in records if record]
    width = Counter(map(len, full)).most_common(1)[0][0] if _agreement(records) else max(map(len, full))
    first = next(place for place, record in enumerate(records) if record)
    rows = [record[1:] for record in full[1:] if len(record) == width]
    if 2 <= len(records[first]) == width - 1 and rows and _is_header(records[first], rows):
        written = records[first]
        is_ended = not any(record[-1] for record in rows)  # rows end with a delimiter; else, as R writes row names
        records = [*records[:first], [*written, ""] if is_ended else ["", *written], *records[first + 1 :]]
    start = next((place for place, record in enumerate(records[: MOST_BEFORE + first]) if len(record) == width), first)
    header, body = records[start], [record for record in records[start + 1 :] if len(record) == width]
    before = delimiter.join(records[first]) if start > first else ""
    skip = start + lead
    if not _is_header(header, body):
        numbered = tuple(f"column{number}" for number in range(1, width + 1))
        return Dialect(delimiter, quote, escape, skip, numbered, before, has_header=False)
    strip = len(header) > 1 and all(name.startswith(" ") for name in header[1:])
    names = tuple(name.strip() or f"Unnamed: {place}" for place, name in enumerate(header))
    return Dialect(delimiter, quote, escape, skip + 1, names, before, strip=strip)


def _is_header(first: Sequence[str], body: Sequence[Sequence[str]]) -> bool:
    """Whether a first record names the columns of the others."""
    columns = list(zip(*body, strict=True)) if body else []
    numeric = [place for place, column in enumerate(columns) if _is_numeric(column)]
    if columns and len(first) > 1 and not first[0] and all(columns[0]):
        return True  # the column of row names has no name
    if numeric:
        return not all(is_number(first[place]) for place in numeric)
    if not columns:
        return not all(map(is_number, first))
    return not all(name in column for name, column in zip(first, columns, strict=True))


def _is_numeric(column: Sequence[str]) -> bool:
    present = [text for text in column if not is_marker(text)]
    return bool(present) and all(map(is_number, present))
