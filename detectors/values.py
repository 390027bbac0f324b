"""Values of records' signals: numbers as arrays, categories as the cells of their levels.

A value of the wrong type does not stop its record: in a numeric signal it is counted as not finite and as a violation
of ``type``; in a categorical one it is spelled out and looked up like any level.
"""

import functools
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import getitem, itemgetter
from typing import Any

import numpy as np

from driftline.detectors.arrays import F64, I64, Mask
from driftline.detectors.baseline import PREDICTION
from driftline.detectors.further_levels import FurtherLevels
from driftline.detectors.records import Prediction

MOST_REMEMBERED = 4096
"""Values whose place a table remembers after it was worked out."""


class Levels(dict[Any, int]):
    """Place of each value of a categorical signal: its levels in order, other known levels, unseen ones, missing (None).

    A value that is not a level is spelled out and looked up again. The place of another known level is remembered: such
    values are frequent where there are many levels.
    """

    __slots__ = ("further",)

    def __init__(self, levels: Sequence[str], further: str) -> None:
        super().__init__({level: place for place, level in enumerate((*levels, None, None, None))})
        self.further = FurtherLevels(further)

    def __missing__(self, value: Any) -> int:
        text = level_text(value)
        place = self.get(text)
        if place is not None:
            return place
        if not self.further or text not in self.further:
            return self[None] - 1
        place = self[None] - 2
        if text is value and len(self) < MOST_REMEMBERED:
            self[text] = place
        return place


_SPELLED = {"NaN", "Infinity", "-Infinity"}
"""How JSON writers spell what JSON has no number for (as protobuf's JSON mapping does)."""


def numbers(features: Sequence[Mapping[str, Any]], outputs: Sequence[Any], names: Sequence[str]) -> tuple[F64, Mask]:
    """Read numeric signals of n records.

    Returns
    -------
    Values of shape (signals, n), NaN where missing and infinite where no number, and which are of the wrong type.
    """
    inputs = [name for name in names if name != PREDICTION]
    values, mistyped = np.empty((len(names), len(features))), np.zeros((len(names), len(features)), np.bool_)
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
            mistyped[place] = [_is_mistyped(value) for value in column]
    return values, mistyped


@functools.lru_cache(maxsize=256)
def places_of(levels: tuple[str, ...], further: str = "") -> Levels:
    """Places of levels, then of all further known ones, then of unseen ones, then of a missing value.

    Signals with the same levels share a table: then those of many models are few enough for the processor's cache.

    Examples
    --------
    >>> places_of(("red", "blue"))
    {'red': 0, 'blue': 1, None: 4}
    """
    return Levels(levels, further)


def level_places(
    features: Sequence[Mapping[str, Any]],
    outputs: Sequence[Any],
    name: str,
    tables: Sequence[Levels],
    reader: Sequence[int],
) -> I64:
    """Places of one categorical signal's values in n records, shape (n,), each looked up in the table of its reader."""
    column: Iterable[Any] = map(most_probable, outputs) if name == PREDICTION else map(itemgetter(name), features)
    try:
        if all(table is tables[0] for table in tables):
            return np.fromiter(map(tables[0].__getitem__, column), np.int64, len(features))
        return np.fromiter(map(getitem, map(tables.__getitem__, reader), column), np.int64, len(features))
    except KeyError:  # a record without this feature
        values = map(most_probable, outputs) if name == PREDICTION else (row.get(name) for row in features)
        return np.fromiter(map(getitem, map(tables.__getitem__, reader), values), np.int64, len(features))


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


def level_of(prediction: Prediction, name: str) -> str:
    """The level that a record has of a categorical signal: the one place where levels' names are taken from records."""
    value = most_probable(prediction.prediction) if name == PREDICTION else prediction.features.get(name)
    return level_text(value)


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
