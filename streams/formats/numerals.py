"""Which texts are numbers, and which stand for a missing value: one rule for every file format."""

from __future__ import annotations

import re

NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
"""A plain number, in the syntax that Python's `re` and DuckDB's RE2 share."""
INFINITE = r"[+-]?([iI][nN][fF]([iI][nN][iI][tT][yY])?)"
GROUPED = r"[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?"
"""With commas between thousands."""
DECIMAL_COMMA = r"[+-]?([0-9]+|[1-9][0-9]{0,2}(\.[0-9]{3})+)(,[0-9]+)?([eE][+-]?[0-9]+)?"
"""With a comma before the decimals, and perhaps points between thousands."""
CODED = r"[+-]?0[0-9].*"
"""With a leading zero: a code, as in "007", that would lose it as a number."""

MARKERS = ("", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "\\n", "?")
"""Texts that stand for a missing value in a column of numbers, in lower case and without surrounding blanks."""

_number = re.compile(f"{NUMBER}|{INFINITE}").fullmatch
_coded = re.compile(CODED).fullmatch


def is_number(text: str) -> bool:
    """Whether a text is a number, after surrounding blanks; a code with a leading zero is none.

    Examples
    --------
    >>> [is_number(text) for text in ("1.50", " -3e5", "inf", "007", "1_000", "0x10", "nan", "")]
    [True, True, True, False, False, False, False, False]
    """
    text = text.strip()
    return _number(text) is not None and _coded(text) is None


def number(text: str, decimal: str = ".") -> float | None:
    """Read a text as a number; None where it is none.

    Parameters
    ----------
    text
        The text.
    decimal
        The decimal mark. Where it is the point, commas may separate thousands, and the other way round.

    Examples
    --------
    >>> number("1,234.5"), number("1.234,5", ","), number("007"), number("12 %")
    (1234.5, 1234.5, None, None)
    """
    if is_number(text) and (decimal == "." or re.fullmatch(DECIMAL_COMMA, text.strip()) is None):
        return float(text)
    text = text.strip()
    if _coded(text):
        return None
    if decimal == "," and re.fullmatch(DECIMAL_COMMA, text):
        return float(text.replace(".", "").replace(",", "."))
    return float(text.replace(",", "")) if decimal == "." and re.fullmatch(GROUPED, text) else None


def numeral(text: str, decimal: str) -> float | None:
    """Read a text of a column of numbers, where a leading zero makes no code of it.

    Examples
    --------
    >>> numeral("007", "."), numeral("1,5", ","), numeral("x", ".")
    (7.0, 1.5, None)
    """
    found = number(text, decimal)
    return float(text) if found is None and _number(text.strip()) is not None else found


def is_marker(text: str) -> bool:
    r"""Whether a text stands for a missing value in a column of numbers.

    Examples
    --------
    >>> [is_marker(text) for text in ("", "  ", "N/A", "NULL", "\\N", "-", "0")]
    [True, True, True, True, True, False, False]
    """
    return text.strip().lower() in MARKERS
