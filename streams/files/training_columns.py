"""Training rows in files as columns, and what each column was taken for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import orjson

from driftline.detectors.baselines.training import CategoricalColumn, NumericColumn
from driftline.detectors.documents.baseline import PREDICTION
from driftline.detectors.errors import OperatorError
from driftline.detectors.layout.values import level_text, most_probable
from driftline.streams.files.column_facts import about, facts_of, numbers
from driftline.streams.files.files import opened
from driftline.streams.files.json_columns import spread
from driftline.streams.files.options import IDENTITY
from driftline.streams.files.schema_inference import Decision, Facts, decide, decimal_mark
from driftline.streams.formats.rejections import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from driftline.detectors.baselines.training import Column as Training
    from driftline.streams.files.options import Reading
    from driftline.streams.files.table import Column, Table


BOOLEANS = {"true": "true", "1": "true", "1.0": "true", "false": "false", "0": "false", "0.0": "false"}
"""Texts, in lower case, that a boolean column reads as its levels."""


@dataclass(frozen=True)
class Read:
    """What was read.

    Parameters
    ----------
    columns
        Signal to its values; the model's output under the name ``prediction``, last.
    facts, decisions
        Per column of the file.
    roles
        Role to column.
    decimal
        The decimal mark.
    notes
        What the reader of the file should know.
    n
        Rows.
    sensitive
        Signals whose values are never shown.
    """

    columns: dict[str, Training]
    facts: dict[str, Facts]
    decisions: dict[str, Decision]
    roles: dict[str, str]
    decimal: str
    n: int
    notes: list[str] = field(default_factory=list)
    sensitive: frozenset[str] = frozenset()

    def counts(self, name: str) -> tuple[str, str]:
        """How many values of a column are missing, by what text, and how many of the others differ; for people."""
        facts, profile = self.facts[name], self.decisions[name].profile
        by_text = {text: n for text, n in facts.markers.items() if profile != "categorical" or text in facts.na}
        missing = facts.nulls + facts.blanks + sum(by_text.values())
        texts = ", ".join(by_text)
        distinct = facts.numbers.distinct if profile == "numeric" and facts.numbers else facts.distinct
        return (f"{missing} ({texts})" if texts else str(missing)), str(distinct)


def read_training(
    paths: Sequence[str | Path], reading: Reading, step: Callable[[str, int, int], None] = lambda *_: None
) -> Read:
    """Read files of training rows.

    Parameters
    ----------
    paths
        The files, or globs.
    reading
        What the operator says about them.
    step
        Called with the column that was read, how many steps are done, and of how many.

    Raises
    ------
    OperatorError
        Where they can't be read, or have no column that a reading names.
    """
    with opened(paths) as table:
        if table.form == "json":
            spread(table)
        reading = reading.checked([column.name for column in table.columns], table.name)
        roles = reading.roles(table)
        facts = dict(_facts(table, reading, step))
        decimal = reading.decimal or decimal_mark(facts.values())
        columns: dict[str, Training] = {}
        decisions: dict[str, Decision] = {}
        for done, column in enumerate(table.columns, start=1 + len(facts)):
            name = column.name
            step(name, done, 2 * len(facts))
            facts[name], decisions[name], values = _column(table, column, facts[name], reading, roles, decimal)
            if values is not None:
                columns[name] = values
        if roles.get("prediction") in columns:
            columns = {name: each for name, each in columns.items() if name != roles["prediction"]} | {
                PREDICTION: columns[roles["prediction"]]
            }
        sensitive = {_signal(name, roles) for name in decisions if reading.is_sensitive(name, _signal(name, roles))}
        hidden = frozenset(sensitive & columns.keys())
        return Read(columns, facts, decisions, roles, decimal, table.n, table.notes, hidden)


def _signal(column: str, roles: Mapping[str, str]) -> str:
    return PREDICTION if column == roles.get("prediction") else column


def _facts(table: Table, reading: Reading, step: Callable[[str, int, int], None]) -> Iterator[tuple[str, Facts]]:
    for done, column in enumerate(table.columns):
        step(column.name, done, 2 * len(table.columns))
        yield column.name, facts_of(table, column, reading.na)


def _column(
    table: Table, column: Column, facts: Facts, reading: Reading, roles: Mapping[str, str], decimal: str
) -> tuple[Facts, Decision, Training | None]:
    """Decide on one column and read it."""
    identity = {name: role for role, name in roles.items() if role in IDENTITY}
    if column.name in identity:
        role = identity[column.name]
        return facts, Decision("date" if role == "timestamp" else "id", None, f"the prediction's {role}"), None
    is_output = column.name == roles.get("prediction")
    wanted = reading.kinds.get(column.name)
    mark = facts.mark(decimal)
    values = None
    if facts.is_numeric(decimal) or wanted == "numeric":
        is_plain = facts.plain == facts.valued and mark == "."
        values = numbers(table, column, frozenset(reading.na), mark, is_plain=is_plain)
        facts = replace(facts, numbers=about(values))
    decision = decide(facts, decimal, wanted, keep=is_output)
    if reading.is_sensitive(column.name, _signal(column.name, roles)):
        decision = replace(decision, reason="sensitive: values are not shown")
    if is_output and decision.profile is None and facts.stored != "nested":
        raise OperatorError(f"{table.name}: {column.name}, the model's output, {decision.reason}")
    if is_output:
        decision = replace(decision, reason=f"the model's output; {decision.reason}")
    if decision.profile is None:
        return facts, decision, None
    if decision.profile == "numeric":
        assert values is not None
        return (
            facts,
            decision,
            NumericColumn(values, _texts(table, column, facts, mark), _markers(facts, all_of_them=True)),
        )
    return facts, decision, _categories(table, column, facts, decision)


def _texts(table: Table, column: Column, facts: Facts, mark: str) -> int:
    """Values that a live record of the same rows has as text: of delimited text those that are no numbers."""
    if table.form == "delimited":
        return facts.valued - facts.numerals(mark)
    return max(0, column.quoted - facts.blanks - sum(facts.markers.values()))


def _markers(facts: Facts, *, all_of_them: bool) -> tuple[str, ...]:
    """Texts that stand for a missing value: an empty one always, and those that the column holds."""
    return tuple(sorted({"", *facts.blank_texts, *(text for text in facts.markers if all_of_them or text in facts.na)}))


def _categories(table: Table, column: Column, facts: Facts, decision: Decision) -> CategoricalColumn:
    """Read a column as categories: each distinct text once, and a number a row."""
    is_boolean = decision.profile == "boolean"
    found = table.query(f"SELECT {column.text} AS v FROM rows WHERE v IS NOT NULL GROUP BY v ORDER BY min(rowid)")
    texts = [text for (text,) in found.fetchall()]
    markers = _markers(facts, all_of_them=is_boolean)
    as_number = column.stored == "number" or (facts.plain == facts.present and not facts.coded)
    spell = _spelling(column, is_boolean=is_boolean, as_number=as_number)
    spelled = [None if text.strip() == "" or text in markers else spell(text) for text in texts]
    levels = {level: code for code, level in enumerate(dict.fromkeys(each for each in spelled if each is not None))}
    table.query("CREATE OR REPLACE TEMP TABLE codes (v VARCHAR, code BIGINT)")
    codes = [-1 if level is None else levels[level] for level in spelled]
    table.query("INSERT INTO codes SELECT unnest(?::VARCHAR[]), unnest(?::BIGINT[])", [texts, codes])
    joined = f"SELECT coalesce(codes.code, -1) AS code FROM rows LEFT JOIN codes ON {column.text} = codes.v"
    rows = table.query(f"{joined} ORDER BY rows.rowid").fetchnumpy()["code"]
    return CategoricalColumn(list(levels), np.ma.filled(rows, -1).astype(np.int64), is_boolean, markers)


def _spelling(column: Column, *, is_boolean: bool, as_number: bool) -> Callable[[str], str | None]:
    """How a text is spelled as a level, which is how a live record's value will be: "3" for the number 3.0."""
    if column.stored == "nested":
        return _most_probable
    if is_boolean:
        return lambda text: BOOLEANS.get(text.strip().lower(), text)
    return _number_as_level if as_number else str


def _number_as_level(text: str) -> str | None:
    """A number as a level; NaN is missing."""
    value = float(text)
    return None if math.isnan(value) else level_text(value)


def _most_probable(text: str) -> str | None:
    """The most probable class of an object of probabilities."""
    found = orjson.loads(text)
    if not isinstance(found, dict) or not all(isinstance(each, int | float) for each in found.values()):
        raise OperatorError(
            f"the model's output is {shown(found)}: neither a value nor classes with their probabilities"
        )
    best = most_probable(found)
    return None if best is None else level_text(best)
