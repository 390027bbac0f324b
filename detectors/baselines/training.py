"""Training data as columns: what a baseline is fitted on, whatever file or program it comes from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driftline.detectors.arrays import F64, I64
from driftline.detectors.documents.predictions import Value
from driftline.detectors.layout.values import level_text, most_probable


@dataclass(frozen=True, eq=False)
class NumericColumn:
    """n numbers.

    Parameters
    ----------
    values
        Shape (n,), float64; NaN is missing, infinities are kept.
    text
        How many of the values were text that holds a number, like ``"49"``.
    markers
        Texts that stood for a missing value, like ``""`` or ``"NA"``.
    """

    values: F64
    text: int = 0
    markers: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.values.size


@dataclass(frozen=True, eq=False)
class CategoricalColumn:
    """n categories.

    Parameters
    ----------
    levels
        Distinct values as text, in any order.
    codes
        Index of each row's level in ``levels``, shape (n,); -1 is missing.
    boolean
        Whether the values are booleans, whose levels are ``"false"`` and ``"true"``.
    markers
        Texts that stood for a missing value, like ``""``.
    """

    levels: Sequence[str]
    codes: I64
    boolean: bool = False
    markers: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.codes.size


Column = NumericColumn | CategoricalColumn
"""One signal's training values."""


def column_of(values: Sequence[Value | dict[str, float]]) -> Column:
    """Make a column from Python values: numeric if every value that is not missing is a number, else categorical.

    Parameters
    ----------
    values
        n values; None is missing. A mapping of class to probability stands for its most probable class.

    Examples
    --------
    >>> column_of([1, None, 2.5]).values.tolist()
    [1.0, nan, 2.5]
    >>> column_of(["b", None, "a", "b"]).codes.tolist()
    [0, -1, 1, 0]
    """
    kinds = {type(value) for value in values} - {type(None)}
    if kinds and all(issubclass(kind, float | int | np.number) and kind is not bool for kind in kinds):
        return NumericColumn(np.array([np.nan if value is None else value for value in values], np.float64))
    probable = [most_probable(value) for value in values]
    texts = [None if value is None else level_text(value) for value in probable]
    levels = {level: code for code, level in enumerate(dict.fromkeys(text for text in texts if text is not None))}
    codes = [-1 if text is None else levels[text] for text in texts]
    return CategoricalColumn(list(levels), np.array(codes, np.int64))
