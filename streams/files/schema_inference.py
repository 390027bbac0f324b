"""What a column is taken for: one rule for every file format, with the reason said.

Pure: from counts of a column's values, which `column_facts` makes, to a decision.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Kind = Literal[
    "numeric", "categorical", "boolean", "constant", "id", "index", "date", "text", "nested", "empty", "ignored"
]
Profile = Literal["numeric", "categorical", "boolean"]
"""How a column's values are read."""

MANY = 100
"""Distinct texts beyond which a column is no longer a category if most of them are rare."""
FEW = 20
"""Rows from which a column that never repeats a value is an id or an index."""
LONG = 100
"""Mean length of free text, in characters."""
_INDEX = re.compile(r"unnamed: \d+|index|row_?(id|num|number|name)s?|level_0|__index_level_\d+__", re.IGNORECASE)
_ID = re.compile(r"(.*[_\W])?(id|uuid|guid|key)|.*[a-z]I[dD]|.*ID", 0)
_TIME = re.compile(r".*(date|time|timestamp|datum|[_\W](at|ts))|ts|.*[a-z](At|Ts)", re.IGNORECASE)


@dataclass(frozen=True)
class Numbers:
    """Values of a column that are numbers, whether stored so or as text.

    Parameters
    ----------
    low, high
        Smallest and largest finite one.
    distinct
        How many differ.
    whole
        Whether all are whole.
    counts_up
        Whether each is the one before it plus 1.
    sentinel
        A value that looks like a code for a missing one, as -999, and how often it occurs; None where there is none.
    """

    low: float
    high: float
    distinct: int
    whole: bool
    counts_up: bool
    sentinel: tuple[float, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was counted of a column of n rows.

    Parameters
    ----------
    name, stored
        The column, and how the file stores it: text, number, boolean, time or nested.
    n, nulls, blanks
        Rows, those without a value, and those with an empty or blank text.
    blank_texts
        The texts that are empty or blank.
    markers
        Other texts that stand for a missing value in a column of numbers, with their counts.
    na
        Of these the ones that the operator named: they are missing in any column.
    distinct
        Distinct values apart from those that are missing in any column.
    plain, grouped, comma, coded, boolean, dates, spaced
        Rows, apart from markers, whose text is a number, one with commas between thousands too, one with a decimal
        comma, a number with a leading zero, true or false, a date or a time, or has a blank inside.
    length
        Mean length of the texts.
    example
        The most frequent text that is no number.
    numbers
        Of a column that can be read as numbers.
    """

    name: str
    stored: str
    n: int
    nulls: int = 0
    blanks: int = 0
    blank_texts: tuple[str, ...] = ()
    markers: Mapping[str, int] = field(default_factory=dict)
    na: frozenset[str] = frozenset()
    distinct: int = 0
    plain: int = 0
    grouped: int = 0
    comma: int = 0
    coded: int = 0
    boolean: int = 0
    dates: int = 0
    spaced: int = 0
    length: float = 0.0
    example: str = ""
    numbers: Numbers | None = None

    @property
    def valued(self) -> int:
        """Rows that have a value if the column is one of numbers."""
        return self.n - self.nulls - self.blanks - sum(self.markers.values())

    @property
    def present(self) -> int:
        """Rows that have a value if the column is one of categories."""
        return self.n - self.nulls - self.blanks - sum(self.markers.get(text, 0) for text in self.na)

    @property
    def proves_comma(self) -> bool:
        """Whether the values can only be numbers with a decimal comma."""
        return self.stored == "text" and 0 < self.comma == self.valued > max(self.plain, self.grouped)

    def mark(self, decimal: str) -> str:
        """The column's decimal mark in a file of another's: a comma where it makes numbers of as many values."""
        return "," if decimal == "," and self.stored == "text" and self.comma >= self.grouped else "."

    def numerals(self, decimal: str) -> int:
        """How many values are numbers; a number that is a code is one."""
        return self.comma if self.mark(decimal) == "," else self.grouped

    def is_numeric(self, decimal: str) -> bool:
        """Whether every value is a number, by the file's decimal mark."""
        if self.stored == "number":
            return True
        return self.stored == "text" and 0 < self.numerals(decimal) == self.valued and not self.coded


def decimal_mark(columns: Iterable[Facts]) -> str:
    """The decimal mark of a file: a comma if a column proves it, else the point."""
    return "," if any(each.proves_comma for each in columns) else "."


@dataclass(frozen=True)
class Decision:
    """What a column is taken for.

    Parameters
    ----------
    kind
        What it is.
    profile
        How its values are read; None where it is left out.
    reason
        Why, for people.
    """

    kind: Kind
    profile: Profile | None
    reason: str


def decide(facts: Facts, decimal: str = ".", wanted: str | None = None, *, keep: bool = False) -> Decision:
    """Decide what a column is taken for.

    Parameters
    ----------
    facts
        What was counted.
    decimal
        The file's decimal mark.
    wanted
        What the operator said: numeric, categorical, boolean or ignore; None for nothing.
    keep
        Whether the column is never left out, as the model's output.

    Examples
    --------
    >>> decide(Facts(name="zip", stored="text", n=9, plain=9, grouped=9, coded=4, distinct=5)).reason
    'numbers with leading zeros are codes (4 rows)'
    >>> decide(Facts(name="x", stored="number", n=9, distinct=5)).kind
    'numeric'
    """
    unusable = _unusable(facts, decimal, wanted, keep=keep)
    if unusable is not None:
        return unusable
    if wanted is not None:
        profile: Profile = "numeric" if wanted == "numeric" else "boolean" if wanted == "boolean" else "categorical"
        return Decision(profile, profile, "as told" + _remark(facts, decimal, profile))
    left_out = None if keep else _left_out(facts, decimal)
    if left_out is not None:
        return left_out
    profile, reason = _profile(facts, decimal)
    reason += _remark(facts, decimal, profile)
    if (facts.numbers.distinct if profile == "numeric" and facts.numbers else facts.distinct) == 1:
        return Decision("constant", profile, "has one value only")
    return Decision(profile, profile, reason)


def _unusable(facts: Facts, decimal: str, wanted: str | None, *, keep: bool) -> Decision | None:
    """The decision on a column that can't be a signal, or is not to be one; None for any other."""
    if wanted == "ignore":
        return Decision("ignored", None, "as told")
    if facts.stored == "nested" and not keep:
        return Decision("nested", None, "lists or objects: give their parts columns of their own")
    is_read_as_number = facts.is_numeric(decimal) or facts.markers
    if not facts.present or (is_read_as_number and not facts.valued and wanted != "categorical"):
        return Decision("empty", None, "has no value")
    return None


def _left_out(facts: Facts, decimal: str) -> Decision | None:
    """The decision on a column that says nothing of a model's input; None for any other."""
    if facts.stored == "time":
        return Decision("date", None, "dates or times")
    if facts.stored == "boolean" or 0 < facts.boolean == facts.valued:
        return None
    if facts.is_numeric(decimal):
        return _counted(facts, facts.numbers) if facts.numbers is not None else None
    if 0 < facts.dates == facts.valued:
        return Decision("date", None, "dates or times")
    is_unique = facts.present >= FEW and facts.distinct == facts.present
    if is_unique or (facts.distinct > MANY and (facts.distinct > facts.present / 2 or facts.length > LONG)):
        said = f"{facts.distinct} distinct texts in {facts.present} rows{_nearly_numeric(facts)}"
        free = facts.spaced > facts.present / 2 or facts.length > LONG
        return Decision("text" if free else "id", None, said)
    return None


def _counted(facts: Facts, numbers: Numbers) -> Decision | None:
    """The decision on numbers that count or name rows, or are moments."""
    is_unique = numbers.distinct == facts.valued
    span = f"{numbers.low:.0f} to {numbers.high:.0f}"
    if _TIME.fullmatch(facts.name) and _are_moments(numbers):
        return Decision("date", None, f"moments by its name and its range, {span}")
    if not numbers.whole:
        return None
    if is_unique and _INDEX.fullmatch(facts.name):
        return Decision("index", None, "whole numbers that never repeat, and the name of an index")
    if (
        is_unique
        and facts.n == facts.valued >= FEW
        and (numbers.counts_up or numbers.high - numbers.low + 1 == facts.valued)
    ):
        return Decision("index", None, f"each whole number from {span} once")
    if _ID.fullmatch(facts.name) and facts.valued >= FEW and numbers.distinct > facts.valued / 2:
        return Decision("id", None, f"{numbers.distinct} distinct whole numbers in {facts.valued} rows, and its name")
    return None


def _are_moments(numbers: Numbers) -> bool:
    """Whether all numbers are dates as YYYYMMDD, or seconds, ms, us or ns since the epoch, from 1990 to 2100."""
    if numbers.low >= 19_000_101 and numbers.high <= 21_001_231:
        return True
    return any(numbers.low >= 631_152_000 * unit and numbers.high <= 4_102_444_800 * unit for unit in _UNITS)


_UNITS = (1, 10**3, 10**6, 10**9)


def _profile(facts: Facts, decimal: str) -> tuple[Profile, str]:
    """How a column is read that is a signal."""
    if facts.stored == "boolean" or 0 < facts.boolean == facts.valued:
        return "boolean", "true or false"
    if facts.is_numeric(decimal):
        if facts.stored == "number":
            return "numeric", "numbers"
        if facts.mark(decimal) == "," and facts.comma > facts.plain:
            return "numeric", "numbers with a decimal comma"
        return "numeric", "numbers" if facts.plain == facts.valued else "numbers, commas between thousands"
    if facts.coded and facts.plain == facts.valued:
        return "categorical", f"numbers with leading zeros are codes ({facts.coded} rows)"
    return "categorical", f"{facts.distinct} distinct texts{_nearly_numeric(facts)}"


def _nearly_numeric(facts: Facts) -> str:
    """A hint where a few texts alone keep a column from being numeric."""
    if facts.coded or not 0.9 * facts.valued < facts.plain < facts.valued:
        return ""
    odd = facts.valued - facts.plain
    return f"; all but {odd} are numbers: give --na {facts.example[:20]!r} if that means missing"


def _remark(facts: Facts, decimal: str, profile: Profile) -> str:
    """What else the operator should know."""
    if profile == "numeric" and facts.numbers is not None and facts.numbers.sentinel is not None:
        value, count = facts.numbers.sentinel
        return f"; {value:g} occurs {count} times: give --na {value:g} if that means missing"
    if profile == "numeric" and not facts.is_numeric(decimal):
        return (
            f"; {facts.valued - facts.numerals(decimal)} rows are no numbers, as {facts.example[:20]!r}: they count as "
            "not finite"
        )
    levels = {text: count for text, count in facts.markers.items() if text not in facts.na}
    if profile == "categorical" and levels:
        text, count = max(levels.items(), key=lambda item: item[1])
        return f"; {text} is a level ({count} rows): give --na {text!r} if that means missing"
    return ""
