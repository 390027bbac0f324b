"""Levels that a window has and its baseline never had: the first few names per signal and how often each came.

Names come from records, so they are bounded here, and escaped where a person reads them.
"""

import re
from collections.abc import Iterable, Mapping

MOST_NAMES, MOST_OF_WINDOW, LONGEST = 8, 64, 64
"""Names that a window keeps of one signal and of all signals, per partition, and characters that it keeps of a name."""
MOST_TOLD = 3
"""Names in one alert."""

NewLevels = dict[str, dict[str, int]]
"""Per signal, how often each of the first new levels came."""

_MARKUP = re.compile(r"""[<>&`*~\[\]|\\@"]|(?<![^\W_])_|_(?![^\W_])|:(?=//)""")


def count(known: NewLevels, found: Iterable[tuple[str, str]]) -> None:
    """Count (signal, level), in log order: levels that come when there is no more room are left out for good."""
    n_names = sum(map(len, known.values()))
    for signal, level in found:
        names, name = known.get(signal, {}), level[:LONGEST]
        if name in names:
            names[name] += 1
        elif len(names) < MOST_NAMES and n_names < MOST_OF_WINDOW:
            known.setdefault(signal, names)[name] = 1
            n_names += 1


def merged(parts: Iterable[NewLevels]) -> NewLevels:
    """Add up what partitions counted; in whatever order.

    Examples
    --------
    >>> merged([{"colour": {"mauve": 2}}, {"colour": {"pink": 1, "mauve": 1}}])
    {'colour': {'mauve': 3, 'pink': 1}}
    """
    total: NewLevels = {}
    for part in parts:
        for signal, names in part.items():
            own = total.setdefault(signal, {})
            for name, n in names.items():
                own[name] = own.get(name, 0) + n
    return total


def bounded_names(levels: NewLevels) -> NewLevels:
    """No more names than a window keeps of one partition: of every signal the most frequent ones first.

    Examples
    --------
    >>> many = {f"signal {n}": {"mauve": 2, "pink": 1} for n in range(MOST_OF_WINDOW)}
    >>> bounded_names(many)["signal 63"]
    {'mauve': 2}
    """
    if sum(map(len, levels.values())) <= MOST_OF_WINDOW:
        return levels
    order = sorted(
        (place, -n, signal, name) for signal, names in levels.items() for place, (name, n) in enumerate(ranked(names))
    )
    kept: NewLevels = {}
    for _, n, signal, name in order[:MOST_OF_WINDOW]:
        kept.setdefault(signal, {})[name] = -n
    return kept


def ranked(names: Mapping[str, int]) -> list[tuple[str, int]]:
    """The most frequent names first, among equals by name; no more than a window keeps of one partition."""
    return sorted(names.items(), key=lambda item: (-item[1], item[0]))[:MOST_NAMES]


def quoted(level: str) -> str:
    r"""A level as a person may be shown it: cut, printable, with nothing that a chat or a page would render.

    Examples
    --------
    >>> print(quoted("new_york"), quoted("<b>"), quoted("a\nb"), quoted("_x_"))
    "new_york" "\u003cb\u003e" "a\u000ab" "\u005fx\u005f"
    """
    plain = _MARKUP.sub(lambda found: _escaped(found.group()), level[:LONGEST])
    return '"' + "".join(each if each.isprintable() else _escaped(each) for each in plain) + '"'


def told(levels: Iterable[tuple[str, int]], n: int) -> str:
    """Name new levels of n records in all, the most frequent first.

    Examples
    --------
    >>> told([("mauve", 3), ("pink", 1)], 4), told([("mauve", 3)], 5), told([], 5)
    ('"mauve" 3 times, "pink" once', '"mauve" 3 times and others', '')
    """
    first = list(levels)[:MOST_TOLD]
    named = ", ".join(f"{quoted(name)} {'once' if times == 1 else f'{times} times'}" for name, times in first)
    return named + " and others" * bool(named and sum(times for _, times in first) < n)


def _escaped(character: str) -> str:
    return f"\\u{ord(character):04x}"
