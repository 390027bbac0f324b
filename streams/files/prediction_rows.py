"""Rows of files as prediction documents, read by the rules that the training rows were read by.

A cell of delimited text has no type of its own. The baseline of its model decides: a number for a numeric signal, a text
for a category, so that a published file and the file that the baseline was made from count alike. Where no baseline has
the column, a text that is a number is one. JSON and Parquet have types, and their values go as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from driftline.detectors.documents.baseline import PREDICTION, CategoricalSignal, NumericSignal
from driftline.detectors.documents.level_hashes import HashedLevels, key_of
from driftline.detectors.errors import OperatorError
from driftline.detectors.layout.values import level_text
from driftline.streams.files.cells import (
    boolean,
    category,
    guessed,
    json_value,
    moment,
    name_of,
    number_or_text,
    parsed,
    typed_value,
)
from driftline.streams.files.column_facts import facts_of
from driftline.streams.files.files import opened
from driftline.streams.files.json_columns import keyed
from driftline.streams.files.schema_inference import decimal_mark

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from pathlib import Path

    from driftline.detectors.documents.baseline import Baseline, Signal
    from driftline.detectors.layout.watch import ModelKey
    from driftline.streams.files.options import Reading
    from driftline.streams.files.table import Column, Table

AT_ONCE = 2_000
"""Rows that are fetched together."""

Cell = Callable[[Any], Any]
"""Turns a value of a file into one of a document."""


@contextmanager
def opened_predictions(
    paths: Sequence[str | Path], reading: Reading, baselines: Mapping[ModelKey, Baseline]
) -> Iterator[Predictions]:
    """Open files of predictions.

    Parameters
    ----------
    paths
        The files, or globs.
    reading
        What the operator says about them.
    baselines
        Per model version the one that decides the types of delimited text.

    Raises
    ------
    OperatorError
        Where they can't be read, or have no column that a reading names.
    """
    with opened(paths) as table:
        if table.form == "json":
            keyed(table)
        reading.checked([column.name for column in table.columns], table.name, may_lack=True)
        facts = [facts_of(table, each, reading.na) for each in table.columns] if table.form == "delimited" else []
        decimal = reading.decimal or decimal_mark(facts)
        marks = {each.name: each.mark(decimal) for each in facts}
        yield Predictions(table, reading, baselines, reading.roles(table), marks)


@dataclass(frozen=True)
class Predictions:
    """An open file of predictions.

    Parameters
    ----------
    table, reading, baselines
        As above.
    roles
        Role to column.
    marks
        Column of delimited text to its decimal mark.
    """

    table: Table
    reading: Reading
    baselines: Mapping[ModelKey, Baseline]
    roles: Mapping[str, str]
    marks: Mapping[str, str]

    def __len__(self) -> int:
        return self.table.n

    def documents(self, order: Sequence[int] | None = None) -> Iterator[dict[str, Any]]:
        """Yield every row as a document in the wire form.

        Parameters
        ----------
        order
            Numbers of the rows, in the order wanted; None for the file's.

        Raises
        ------
        OperatorError
            Where a row does not tell its model.
        """
        rows = enumerate(self._rows(order), start=1)
        made = self._from_json if self.table.form == "json" else self._from_cells()
        for place, row in rows:
            document = made(row)
            if "model" not in document and not ("input" in document and "output" in document):
                raise OperatorError(f"{self._row(place, order)}: tells no model: give --model NAME")
            if "version" not in document and "input" not in document:
                raise OperatorError(f"{self._row(place, order)}: tells no version: give --version NAME")
            yield document

    def _row(self, place: int, order: Sequence[int] | None) -> str:
        return f"{self.table.name}, row {place if order is None else order[place - 1] + 1}"

    def _rows(self, order: Sequence[int] | None) -> Iterator[tuple[Any, ...]]:
        chosen = "doc::VARCHAR" if self.table.form == "json" else ", ".join(map(_fetched, self.table.columns))
        if order is None:
            found = self.table.query(f"SELECT {chosen} FROM rows ORDER BY rowid")
        else:
            self.table.query("CREATE OR REPLACE TEMP TABLE places (place BIGINT, number BIGINT)")
            numbers = list(map(int, order))
            self.table.query(
                "INSERT INTO places SELECT unnest(?::BIGINT[]), unnest(?::BIGINT[])",
                [list(range(len(numbers))), numbers],
            )
            found = self.table.query(f"SELECT {chosen} FROM rows JOIN places ON rows.rowid = number ORDER BY place")
        while rows := found.fetchmany(AT_ONCE):
            yield from rows

    def _given(self) -> dict[str, Any]:
        told = {"model": self.reading.model, "version": self.reading.version}
        return {role: name for role, name in told.items() if name is not None}

    def _from_json(self, row: tuple[Any, ...]) -> dict[str, Any]:
        """A document: of either wire form as it is, else one made of a flat object."""
        found = parsed(row[0])
        told = {role: found[name] for role, name in self.roles.items() if name != role and name in found}
        if "input" in found and "output" in found:
            names = {"model": "model", "version": "model_version"}
            return {names[role]: name for role, name in self._given().items()} | found | told
        if isinstance(found.get("features"), dict):
            features = {name: self._of_json(value) for name, value in found["features"].items()}
            return self._given() | found | told | {"features": features}
        return self._document((name, self._of_json(value)) for name, value in found.items())

    def _of_json(self, value: Any) -> Any:
        return json_value(value) if not self._is_missing(value) else None

    def _document(self, cells: Any) -> dict[str, Any]:
        """A document of a row's names and values."""
        of = {name: role for role, name in self.roles.items()}
        features: dict[str, Any] = {}
        document = self._given()
        document |= {"features": features, PREDICTION: None}
        for name, value in cells:
            role = of.get(name)
            if role is None:
                if self.reading.kinds.get(name) != "ignore":
                    features[name] = value
            elif role == PREDICTION:
                document[PREDICTION] = value
            elif value is not None:
                document[role] = str(value) if role in ("model", "version") else value
        return document

    def _from_cells(self) -> Callable[[tuple[Any, ...]], dict[str, Any]]:
        """A function that makes a document of a row of cells."""
        names = [column.name for column in self.table.columns]
        places = {role: names.index(name) for role, name in self.roles.items()}
        readers: dict[ModelKey, list[Cell]] = {}

        def told(row: tuple[Any, ...], role: str) -> str:
            value = row[places[role]] if role in places else None
            given: str | None = getattr(self.reading, role)
            return (given or "") if value is None else str(value)

        def made(row: tuple[Any, ...]) -> dict[str, Any]:
            key = (told(row, "model"), told(row, "version"))
            if key not in readers:
                readers[key] = self._readers(self.baselines.get(key))
            return self._document((name, read(cell)) for name, read, cell in zip(names, readers[key], row, strict=True))

        return made

    def _readers(self, baseline: Baseline | None) -> list[Cell]:
        """What reads each column's cells, for rows of one model version."""
        signals = {} if baseline is None else baseline.signals
        of = {name: role for role, name in self.roles.items()}
        readers: list[Cell] = []
        for column in self.table.columns:
            role = of.get(column.name)
            if role not in (None, PREDICTION):
                readers.append(moment if role == "timestamp" else name_of)
            elif self.table.form == "parquet":
                readers.append(self._typed)
            else:
                name = role or column.name
                readers.append(self._reader(column.name, signals.get(name), _levels(baseline, name)))
        return readers

    def _typed(self, value: Any) -> Any:
        return typed_value(value) if not self._is_missing(value) else None

    def _is_missing(self, value: Any) -> bool:
        """Whether a value with a type of its own is one that the operator named as missing."""
        return bool(self.reading.na) and level_text(value).strip() in self.reading.na

    def _reader(self, name: str, signal: Signal | None, levels: Container[str]) -> Cell:
        """What reads a text column's cells: as told, as its baseline has it, or each by what it looks like."""
        kind = self.reading.kinds.get(name)
        missing = {"", *self.reading.na, *(() if signal is None else signal.markers)}
        is_boolean = isinstance(signal, CategoricalSignal) and signal.boolean
        if kind == "numeric" or (kind is None and isinstance(signal, NumericSignal)):
            return lambda text: number_or_text(text, missing, self.marks[name])
        if kind == "boolean" or (kind is None and is_boolean):
            return lambda text: boolean(text, missing)
        if kind == "categorical" or signal is not None:
            return lambda text: category(text, missing, levels)
        return lambda text: guessed(text, missing, self.marks[name])


def _levels(baseline: Baseline | None, name: str) -> Container[str]:
    """The levels that a baseline has of a signal."""
    signal = None if baseline is None else baseline.signals.get(name)
    if baseline is None or not isinstance(signal, CategoricalSignal):
        return ()
    if signal.sensitive:
        return HashedLevels(signal.levels, key_of(baseline.model, name))
    return frozenset(signal.levels)


def _fetched(column: Column) -> str:
    """Expression for what is fetched of a column: a time as text, for which DuckDB would want another package."""
    return column.text if column.stored == "time" else column.sql
