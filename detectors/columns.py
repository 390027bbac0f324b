"""From predictions to columns: one array per signal of one model version.

A value of the wrong type does not stop its record: in a numeric signal it is counted as not finite and as a violation
of ``type``; in a categorical one it is spelled out and looked up like any level.
"""

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np

from driftline.detectors.arrays import F64, I64, Mask
from driftline.detectors.baseline import PREDICTION
from driftline.detectors.layout import Layout
from driftline.detectors.records import Prediction

_SPELLED = {"NaN", "Infinity", "-Infinity"}
"""How JSON writers spell what JSON has no number for (as protobuf's JSON mapping does)."""


@dataclass(frozen=True, slots=True)
class Columns:
    """n records of one model version.

    Parameters
    ----------
    numeric
        Shape (numeric signals, n). NaN is missing; an infinity is a value that is not finite or not a number.
    finite
        Which numeric values are finite, shape (numeric signals, n).
    cells
        Cell of the layout that each value is counted in, shape (signals, n).
    scores
        Normal scores of the numeric signals, shape (numeric signals, n); no meaning where not finite.
    mistyped
        (signal, row) of values of the wrong type.
    """

    numeric: F64
    finite: Mask
    cells: I64
    scores: F64
    mistyped: tuple[tuple[int, int], ...]


def columns(predictions: Sequence[Prediction], layout: Layout) -> Columns:
    """Turn records of one model version into columns."""
    features = [prediction.features for prediction in predictions]
    outputs = list(map(attrgetter("prediction"), predictions))
    numeric, mistyped = _numeric(features, outputs, layout.numeric)
    finite = np.isfinite(numeric)
    cells = np.empty((len(layout.signals), len(features)), np.int64)
    with np.errstate(invalid="ignore"):  # infinity times a slope of 0: its score has no meaning
        scores = _search(numeric, layout, cells[: len(layout.numeric)])
    if not finite.all():
        missing = layout.missing_cell[: len(layout.numeric), None]
        odd = np.where(np.isnan(numeric), missing, missing + 1)
        np.copyto(cells[: len(layout.numeric)], odd, where=~finite)
    for place, (name, levels) in enumerate(zip(layout.categorical, layout.level_cells, strict=True)):
        cells[len(layout.numeric) + place] = _categorical(features, outputs, name, levels)
    return Columns(numeric, finite, cells, scores, mistyped)


def _categorical(
    features: Sequence[Mapping[str, Any]], outputs: Sequence[Any], name: str, levels: Mapping[str | None, int]
) -> I64:
    """Cells of one categorical signal, shape (n,)."""
    column: Iterable[Any] = map(most_probable, outputs) if name == PREDICTION else map(itemgetter(name), features)
    try:
        return np.fromiter(map(levels.__getitem__, column), np.int64, len(features))
    except KeyError:  # an unseen level, or a record without this feature
        values = map(most_probable, outputs) if name == PREDICTION else (row.get(name) for row in features)
        return np.array([_level_cell(value, levels) for value in values], np.int64)


def _numeric(
    features: Sequence[Mapping[str, Any]], outputs: Sequence[Any], names: Sequence[str]
) -> tuple[F64, tuple[tuple[int, int], ...]]:
    """Numeric signals as an array of shape (signals, n), and the places of values of the wrong type."""
    inputs = [name for name in names if name != PREDICTION]
    values = np.empty((len(names), len(features)))
    mistyped: list[tuple[int, int]] = []
    careful = list(enumerate(names))
    if len(inputs) > 1:
        try:
            flat = _packed(tuple(chain.from_iterable(map(itemgetter(*inputs), features))))
        except (KeyError, struct.error):
            pass
        else:
            rows = [place for place, name in careful if name != PREDICTION]
            values[rows] = flat.reshape(len(features), len(inputs)).T
            careful = [(place, name) for place, name in careful if name == PREDICTION]
    for place, name in careful:
        column = outputs if name == PREDICTION else [row.get(name) for row in features]
        try:
            values[place] = _packed(column)
        except struct.error:
            values[place] = [_number(value) for value in column]
            mistyped += [(place, row) for row, value in enumerate(column) if _is_mistyped(value)]
    return values, tuple(mistyped)


def _packed(values: Sequence[Any]) -> F64:
    """Numbers as an array, None as NaN; struct.error where any is neither: numpy would read the string ``"1"`` as 1."""
    try:
        raw = struct.pack(f"{len(values)}d", *values)  # in half the time of anything that takes an iterator
    except struct.error:
        raw = struct.pack(f"{len(values)}d", *[math.nan if value is None else value for value in values])
    return np.frombuffer(raw)


def _number(value: object) -> float:
    """A number as it is, missing as NaN, anything else as infinity."""
    if isinstance(value, float | int):
        return float(value)
    return math.nan if value is None else math.inf


def _is_mistyped(value: object) -> bool:
    return not (value is None or isinstance(value, float | int) or (isinstance(value, str) and value in _SPELLED))


def most_probable(output: object) -> object:
    """The most probable class of ``{class: probability}``, the first by name among equals; anything else as it is.

    Examples
    --------
    >>> most_probable({"no": 0.4, "yes": 0.6}), most_probable({"b": 0.5, "a": 0.5}), most_probable(0.7)
    ('yes', 'a', 0.7)
    """
    if not isinstance(output, dict):
        return output
    return min(output, key=lambda name: (-output[name], name), default=None)


def level_text(value: object) -> str:
    """How a categorical value that is not a string is spelled: as JSON, whole numbers without a fraction.

    Examples
    --------
    >>> level_text(True), level_text(3.0), level_text(2.5), level_text("3")
    ('true', '3', '2.5', '3')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _level_cell(value: Any, levels: Mapping[str | None, int]) -> int:
    """Cell of one categorical value; the unseen level's cell stands before the missing one's."""
    cell = levels.get(value)
    return levels.get(level_text(value), levels[None] - 1) if cell is None else cell


def _search(numeric: F64, layout: Layout, cells: I64) -> F64:
    """One search per value: fills in its cell and gives its normal score. What is not finite gets no meaning yet."""
    table = layout.segments
    segment = np.empty(numeric.shape, np.int64)
    for place, cuts in enumerate(table.cuts):
        segment[place] = cuts.searchsorted(numeric[place], side="right")
    segment += table.first
    # No index is out of range; mode="clip" spares numpy the check and the copy that would undo a failed one.
    table.cell.take(segment, out=cells, mode="clip")
    scores = numeric - table.start.take(segment)
    scores *= table.slope.take(segment)
    scores += table.score.take(segment)
    return scores
