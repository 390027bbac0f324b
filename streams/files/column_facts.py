"""Counts of a column's values, by which it is decided what the column is taken for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from driftline.streams.files.schema_inference import Facts, Numbers
from driftline.streams.formats.numerals import CODED, DECIMAL_COMMA, GROUPED, INFINITE, MARKERS, NUMBER, is_number

if TYPE_CHECKING:
    from collections.abc import Collection

    from driftline.detectors.arrays import F64, I64
    from driftline.streams.files.table import Column, Table

_CLOCK = r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?( ?[aApP]\.?[mM]\.?)?( ?(Z|UTC|GMT|[+-][0-9]{2}(:?[0-9]{2})?))?(\[[A-Za-z/_]+\])?"
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_DAY = (
    r"[0-9]{4}([-/.])[0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/][0-9]{1,2}[-/]([0-9]{2}|[0-9]{4})"
    r"|[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{4}|[0-9]{4}-(0[1-9]|1[0-2])"
    rf"|((mon|tue|wed|thu|fri|sat|sun)[a-z]*,? +)?([0-9]{{1,2}}[- ]+)?{_MONTH}[-. ,]+([0-9]{{1,2}},? +)?[0-9]{{2,4}}"
)
DATE = rf"(?i)({_DAY})([T ,]+{_CLOCK})?|{_CLOCK}"
SENTINELS = (-1.0, -9.0, -99.0, -999.0, -9999.0, -99999.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0)
MOST_MARKERS = 20
"""Spellings of a missing value that are told apart in one column."""


def facts_of(table: Table, column: Column, na: Collection[str]) -> Facts:
    """Count what the values of a column are.

    Parameters
    ----------
    table, column
        Where they are.
    na
        Texts that stand for a missing value besides the usual ones.
    """
    if column.stored in ("nested", "time", "boolean"):
        [[nulls, distinct]] = table.query(
            f"SELECT count(*) - count({column.text}), count(DISTINCT {column.text}) FROM rows"
        ).fetchall()
        return Facts(name=column.name, stored=column.stored, n=table.n, nulls=nulls, distinct=distinct)
    if column.stored == "number" and not na:
        return _stored_numbers(table, column)
    return _texts(table, column, _spelled(column, na))


def _spelled(column: Column, na: Collection[str]) -> frozenset[str]:
    """Texts that are missing; in a column of stored numbers, -999 is also called -999.0."""
    if column.stored != "number":
        return frozenset(na)
    return frozenset(na) | {str(float(text)) for text in na if is_number(text)}


def _stored_numbers(table: Table, column: Column) -> Facts:
    values = numbers(table, column, frozenset(), ".")
    nulls = int(np.isnan(values).sum())
    found = about(values)
    n_distinct = found.distinct if found is not None else 0
    return Facts(name=column.name, stored="number", n=table.n, nulls=nulls, distinct=n_distinct, numbers=found)


def _texts(table: Table, column: Column, na: frozenset[str]) -> Facts:
    table.query(f"CREATE OR REPLACE TEMP TABLE texts AS SELECT {column.text} AS v, count(*) AS n FROM rows GROUP BY v")
    marked = f"(trim(v) <> '' AND {is_missing_sql(na)})"
    markers = dict(table.query(f"SELECT v, n FROM texts WHERE {marked} ORDER BY n DESC, v").fetchall()[:MOST_MARKERS])
    named = frozenset(text for text in markers if text.strip() in na)
    in_any = " OR ".join(["trim(v) = ''", *(f"trim(v) = {_sql(text)}" for text in na)])
    tests = {
        "plain": f"regexp_full_match(t, '{NUMBER}|{INFINITE}')",
        "grouped": f"regexp_full_match(t, '{NUMBER}|{INFINITE}|{GROUPED}')",
        "comma": f"regexp_full_match(t, '{DECIMAL_COMMA}')",
        "coded": f"regexp_full_match(t, '{CODED}')",
    }
    found = _counted(table, tests, marked)
    [[nulls, blanks, distinct]] = table.query(
        "SELECT coalesce(sum(n) FILTER (v IS NULL), 0), coalesce(sum(n) FILTER (trim(v) = ''), 0), "
        f"count(*) FILTER (v IS NOT NULL AND NOT ({in_any})) FROM texts"
    ).fetchall()
    facts = Facts(
        name=column.name, stored=column.stored, n=table.n, nulls=int(nulls), blanks=int(blanks), markers=markers,
        na=named, distinct=distinct, blank_texts=_blanks(table) if blanks else (), **found,
    )  # fmt: skip
    if column.stored == "text" and not (0 < facts.plain == facts.valued and not facts.coded):
        return _described(table, facts, marked)
    return facts


def _blanks(table: Table) -> tuple[str, ...]:
    found = table.query("SELECT v FROM texts WHERE trim(v) = '' ORDER BY n DESC, v LIMIT ?", [MOST_MARKERS]).fetchall()
    return tuple(text for (text,) in found)


def _counted(table: Table, tests: dict[str, str], marked: str) -> dict[str, Any]:
    """Rows that pass each test and are not missing."""
    sums = ", ".join(f"coalesce(sum(n) FILTER ({test}), 0)" for test in tests.values())
    given = f"SELECT trim(v) AS t, n FROM texts WHERE v IS NOT NULL AND trim(v) <> '' AND NOT {marked}"
    [row] = table.query(f"SELECT {sums} FROM ({given})").fetchall()
    return dict(zip(tests, map(int, row), strict=True))


def _described(table: Table, facts: Facts, marked: str) -> Facts:
    """Facts with what only matters where not all values are plain numbers."""
    tests = {
        "boolean": "lower(t) IN ('true', 'false')",
        "dates": f"regexp_full_match(t, '{DATE}')",
        "spaced": "contains(t, ' ')",
    }
    found = _counted(table, tests, marked)
    given = f"FROM texts WHERE v IS NOT NULL AND trim(v) <> '' AND NOT {marked}"
    [[length]] = table.query(f"SELECT coalesce(sum(n * length(v)), 0) {given}").fetchall()
    example = table.query(f"SELECT v {given} AND NOT regexp_full_match(trim(v), '{NUMBER}') ORDER BY n DESC, v LIMIT 1")
    [[first]] = example.fetchall() or [[""]]
    return Facts(**{**vars(facts), **found, "length": float(length) / max(1, facts.valued), "example": first})


def is_missing_sql(na: frozenset[str]) -> str:
    """Expression for whether text ``v`` stands for a missing value in a column of numbers."""
    usual = ", ".join(map(_sql, MARKERS))
    told = "".join(f" OR trim(v) = {_sql(text)}" for text in sorted(na))
    return f"(lower(trim(v)) IN ({usual}){told})"


def _sql(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def numbers(table: Table, column: Column, na: frozenset[str], decimal: str, *, is_plain: bool = False) -> F64:
    """Read a column as numbers: NaN where missing, infinite where a text is no number.

    Parameters
    ----------
    table, column
        Where they are.
    na
        Texts that are missing besides the usual ones.
    decimal
        The decimal mark.
    is_plain
        Whether all texts are known to be plain numbers or missing, which is read in a tenth of the time.
    """
    na = _spelled(column, na)
    value = "try_cast(v AS DOUBLE)"
    if na or not (is_plain or column.stored == "number"):
        by_mark, bare = (GROUPED, "replace(trim(v), ',', '')")
        if decimal == ",":
            by_mark, bare = DECIMAL_COMMA, "replace(replace(trim(v), '.', ''), ',', '.')"
        number = f"""CASE WHEN regexp_full_match(trim(v), '{by_mark}') THEN try_cast({bare} AS DOUBLE)
                     WHEN regexp_full_match(trim(v), '{NUMBER}|{INFINITE}') THEN try_cast(trim(v) AS DOUBLE) END"""
        value = f"CASE WHEN v IS NULL OR {is_missing_sql(na)} THEN NULL ELSE coalesce({number}, 'inf'::DOUBLE) END"
    stored = column.sql if column.stored == "number" and not (na or column.is_json) else column.text
    if column.stored == "boolean":
        stored = f"{column.text}::BOOLEAN::INTEGER::VARCHAR"
    found = table.query(f"SELECT {value} AS x FROM (SELECT {stored} AS v FROM rows)").fetchnumpy()["x"]
    return np.ma.filled(found, np.nan).astype(np.float64, copy=False)


def about(values: F64) -> Numbers | None:
    """Describe numbers; None where none is finite.

    Examples
    --------
    >>> about(np.array([3.0, 4.0, 5.0]))
    Numbers(low=3.0, high=5.0, distinct=3, whole=True, counts_up=True, sentinel=None)
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    distinct, counts = np.unique(finite, return_counts=True)
    return Numbers(
        low=float(distinct[0]),
        high=float(distinct[-1]),
        distinct=distinct.size,
        whole=bool((finite == np.floor(finite)).all()),
        counts_up=finite.size > 1 and bool((np.diff(finite) == 1).all()),
        sentinel=_sentinel(distinct, counts.astype(np.int64)),
    )


def _sentinel(distinct: F64, counts: I64) -> tuple[float, int] | None:
    """The smallest or largest value, where it is a usual code for a missing one and stands apart from the others.

    -1 and -9 stand apart where nothing else is negative; other codes by more than the width of what remains.
    """
    for place, others in ((0, distinct[1:]), (-1, distinct[:-1])):
        value = float(distinct[place])
        if value not in SENTINELS or others.size < 3:
            continue
        gap = float(np.abs(others - value).min())
        apart = others[0] >= 0 if value in (-1.0, -9.0) else gap > max(float(others[-1] - others[0]), 1.0)
        if apart:
            return value, int(counts[place])
    return None
