"""Values of records' signals: numbers as arrays, categories as the cells of their levels.

What a value means, the baseline decides: by it ``true``, ``"True"`` and 1 are one level of a boolean signal, and ``"NA"``
is a missing value where it was one in training. A value of the wrong type does not stop its record: in a numeric signal
it is counted as a violation of ``type``, and as the number that it spells or else as not finite; in a categorical one it
is spelled out and looked up like any level. A list or an object is missing, and a violation of ``type`` in both.
"""

import functools
import math
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import getitem, itemgetter
from typing import Any

import numpy as np

from driftline.detectors.arrays import F64, I64, Mask
from driftline.detectors.documents.baseline import PREDICTION
from driftline.detectors.documents.bloom_filter import FurtherLevels
from driftline.detectors.documents.level_hashes import hashed
from driftline.detectors.documents.predictions import NESTED, Prediction

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
        if value is NESTED:
            raise KeyError(value)
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


class HiddenLevels(Levels):
    """The same where levels are hashes: a value is hashed before it is looked up, and its place is remembered."""

    __slots__ = ("_key", "_places", "_spelled")

    def __init__(self, levels: Sequence[str], further: str, key: str, spelled: Mapping[str, str]) -> None:
        super().__init__(levels, further)
        self._key, self._spelled = key, spelled
        self._places = {level: self.pop(level) for level in levels}  # a value may look like a hash

    def __missing__(self, value: Any) -> int:
        if value is NESTED:
            raise KeyError(value)
        text = level_text(value)
        level = hashed(self._spelled.get(text, text), self._key)
        place = self._places.get(level)
        if place is None:
            if not self.further or level not in self.further:
                return self[None] - 1
            place = self[None] - 2
        if text is value and len(self) < MOST_REMEMBERED:
            self[text] = place
        return place


_BOOLEANS = {"false": (False, "0", "FALSE", "False"), "true": (True, "1", "TRUE", "True")}
"""Other spellings of a boolean signal's levels; False and True are also 0 and 1, and 0.0 and 1.0."""
_SPELLINGS = {text: level for level, spelled in _BOOLEANS.items() for text in spelled if isinstance(text, str)}
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)

_SPELLED = {"NaN", "Infinity", "-Infinity"}
"""How JSON writers spell what JSON has no number for (as protobuf's JSON mapping does)."""


def numbers(
    features: Sequence[Mapping[str, Any]],
    outputs: Sequence[Any],
    names: Sequence[str],
    markers: tuple[tuple[str, ...], ...],
) -> tuple[F64, Mask]:
    """Read numeric signals of n records.

    Parameters
    ----------
    features, outputs
        Of the records.
    names, markers
        Of the signals; per signal the texts that stand for a missing value, which a text that holds a number does in
        whatever way the number is written.

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
            missing = markers[place]
            plain = [None if value.__class__ is str and value in missing else value for value in column]
            values[place] = list(map(_number, plain))
            mistyped[place] = list(map(_is_mistyped, plain))
    for place, sentinels in _sentinels(markers):
        values[place][np.isin(values[place], sentinels)] = math.nan
    return values, mistyped


@functools.lru_cache(maxsize=256)
def _sentinels(markers: tuple[tuple[str, ...], ...]) -> list[tuple[int, list[float]]]:
    """Per signal that has any, the numbers that stand for a missing value, like -999."""
    found = ([number for text in texts if (number := number_in(text)) is not None] for texts in markers)
    return [(place, numbers) for place, numbers in enumerate(found) if numbers]


@functools.lru_cache(maxsize=256)
def places_of(
    levels: tuple[str, ...], further: str = "", markers: tuple[str, ...] = (), *, boolean: bool = False, key: str = ""
) -> Levels:
    """Places of levels, then of all further known ones, then of unseen ones, then of a missing value.

    Signals with the same levels share a table: then those of many models are few enough for the processor's cache.

    Parameters
    ----------
    levels
        The levels, in the order of their places.
    further
        Further known levels, as a baseline has them.
    markers
        Texts that stand for a missing value.
    boolean
        Whether booleans, 0 and 1, and texts like "True" are read as the levels "false" and "true".
    key
        Of the hashes that stand for the levels of a sensitive signal; empty where levels are what they are.

    Examples
    --------
    >>> places_of(("red", "blue"), markers=("NA",))
    {'red': 0, 'blue': 1, None: 4, 'NA': 4}
    >>> yes = places_of(("false", "true"), boolean=True)
    >>> [yes[value] for value in ("true", True, 1, 1.0, "1", "True", "TRUE", 0)]
    [1, 1, 1, 1, 1, 1, 1, 0]
    """
    if key:
        places: Levels = HiddenLevels(levels, further, key, _SPELLINGS if boolean else {})
    else:
        places = Levels(levels, further)
        for level, spelled in _BOOLEANS.items():
            if boolean and level in levels:
                for text in spelled:
                    places.setdefault(text, levels.index(level))
    for marker in markers:
        places.setdefault(marker, places[None])
    return places


def level_places(
    features: Sequence[Mapping[str, Any]],
    outputs: Sequence[Any],
    name: str,
    tables: Sequence[Levels],
    reader: Sequence[int],
) -> tuple[I64, Mask | bool]:
    """Look up one categorical signal's values in n records, each in the table of its reader.

    Returns
    -------
    Their places and which of them are lists or objects, shape (n,) both; False for none.
    """
    column: Iterable[Any] = map(most_probable, outputs) if name == PREDICTION else map(itemgetter(name), features)
    try:
        if all(table is tables[0] for table in tables):
            return np.fromiter(map(tables[0].__getitem__, column), np.int64, len(features)), False
        return np.fromiter(map(getitem, map(tables.__getitem__, reader), column), np.int64, len(features)), False
    except KeyError:  # a record without this feature, or a list in its place
        values = list(map(most_probable, outputs)) if name == PREDICTION else [row.get(name) for row in features]
        known = [None if value is NESTED else value for value in values]
        places = np.fromiter(map(getitem, map(tables.__getitem__, reader), known), np.int64, len(features))
        return places, np.fromiter((value is NESTED for value in values), np.bool_, len(values))


def _packed(values: Sequence[Any]) -> F64:
    """Numbers as an array, None as NaN; struct.error where any is neither: numpy would read the string ``"1"`` as 1."""
    try:
        raw = struct.pack(f"{len(values)}d", *values)  # in half the time of anything that takes an iterator
    except struct.error:
        raw = struct.pack(f"{len(values)}d", *[math.nan if value is None else value for value in values])
    return np.frombuffer(raw)


def number_in(text: str) -> float | None:
    """The number that a text holds, in decimal or scientific notation and in ASCII; None where it holds none.

    Examples
    --------
    >>> number_in(" 49 "), number_in("4.9e1"), number_in("1,5"), number_in("nan"), number_in("")
    (49.0, 49.0, None, None, None)
    """
    return float(text) if _NUMBER.fullmatch(text) else None


def _number(value: object) -> float:
    """A number as it is or as text spells it, missing as NaN, anything else as infinity."""
    if isinstance(value, float | int):
        return float(value)
    if value is None or value is NESTED:
        return math.nan
    found = number_in(value) if isinstance(value, str) else None
    return math.inf if found is None else found


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
