"""Dead letters as they lie on their topic: what was rejected, where it came from, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

RESEND = "driftline-resend"
"""Header of the records beside the letters in which a resending keeps its books."""
RESENT_FROM = "driftline-resent-from"
"""Header of a prediction that was a dead letter: the letter's partition and offset."""
REDACTED = "redacted"
"""Header of a letter that holds nothing of its record, which may have sensitive values."""
UNTOLD = "-"


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter.

    Parameters
    ----------
    time_ms
        When it was written.
    place
        Its own partition and offset.
    topic, partition, offset
        Where the rejected record lay.
    reason, field, found, wanted
        What was wrong: in which field, what stood there, and what should; empty where that is not told.
    size
        Bytes of the rejected record, of which the letter holds the first.
    value
        These bytes.
    redacted
        Whether the letter holds none, for the record may have sensitive values.
    written_ms
        The rejected record's Kafka timestamp, where the letter is redacted.
    """

    time_ms: int
    place: tuple[int, int]
    topic: str
    partition: int
    offset: int
    reason: str
    field: str = ""
    found: str = ""
    wanted: str = ""
    size: int
    value: bytes
    redacted: bool = False
    written_ms: int = -1

    @property
    def is_whole(self) -> bool:
        """Whether the letter holds all of the record, and there was something to hold."""
        return 0 < len(self.value) == self.size


class _Sender(msgspec.Struct):
    model: Any = None
    version: Any = None
    model_version: Any = None


def letter_of(record: Any) -> Letter | None:
    """Read a record of the topic; None for one that is no letter, a resending's books for example.

    Parameters
    ----------
    record
        As aiokafka's consumer gives it.
    """
    headers = {name: value.decode(errors="replace") for name, value in record.headers if value is not None}
    if RESEND in headers or "reason" not in headers:
        return None
    value = record.value or b""
    return Letter(
        time_ms=record.timestamp,
        place=(record.partition, record.offset),
        topic=headers.get("topic", ""),
        partition=_number(headers.get("partition")),
        offset=_number(headers.get("offset")),
        reason=headers["reason"],
        field=headers.get("field", ""),
        found=headers.get("found", ""),
        wanted=headers.get("wanted", ""),
        size=_number(headers.get("size"), len(value)),
        value=value,
        redacted=REDACTED in headers,
        written_ms=_number(headers.get("timestamp")),
    )


def sender(value: bytes) -> tuple[str, str]:
    """Return the model and the version that a record's value names, as far as it can be read.

    Examples
    --------
    >>> sender(b'{"model": "churn", "version": 3}'), sender(b'{"model": "churn"}'), sender(b"{")
    (('churn', '3'), ('churn', '-'), ('-', '-'))
    """
    try:
        found = msgspec.json.decode(value, type=_Sender)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UNTOLD, UNTOLD
    version = found.model_version if found.version is None else found.version
    model, version = (UNTOLD if each is None else str(each)[:MOST_NAME] for each in (found.model, version))
    return model, version


class Counts:
    """Counts by name, bounded: names come from whoever writes to a topic.

    Parameters
    ----------
    most
        Names that are told apart; further ones are counted together.

    Examples
    --------
    >>> counts = Counts(most=1)
    >>> for name in ("a", "b", "a", "c"):
    ...     counts.add((name,))
    >>> counts.ranked()
    [(('a',), 2), (('others',), 2)]
    """

    def __init__(self, most: int = 1_000) -> None:
        self._most = most
        self._counts: dict[tuple[str, ...], int] = {}

    def add(self, name: tuple[str, ...], n: int = 1) -> None:
        """Count."""
        if name not in self._counts and len(self._counts) >= self._most:
            name = ("others", *[""] * (len(name) - 1))
        self._counts[name] = self._counts.get(name, 0) + n

    def __bool__(self) -> bool:
        return bool(self._counts)

    def clear(self) -> None:
        """Begin anew."""
        self._counts.clear()

    def ranked(self) -> list[tuple[tuple[str, ...], int]]:
        """Return names and counts, the most frequent first."""
        return sorted(self._counts.items(), key=lambda each: (-each[1], each[0]))


def table(rows: Iterable[tuple[str, ...]], columns: int = 80) -> list[str]:
    """Align rows of cells; where a line would be longer than the terminal, the widest cells are cut.

    Examples
    --------
    >>> table([("2", "age"), ("10", "a")])
    ['2   age', '10  a']
    >>> table([("1", "abcdefgh")], columns=9)
    ['1  abc...']
    """
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > columns:
        widths[widths.index(max(widths))] -= 1
    return ["  ".join(map(_fitted, row, widths)).rstrip() for row in rows]


def _fitted(cell: str, width: int) -> str:
    return f"{cell:<{width}}" if len(cell) <= width else f"{cell[: width - 3]}..."


def _number(text: str | None, otherwise: int = -1) -> int:
    return int(text) if text is not None and text.isdecimal() and len(text) < MOST_DIGITS else otherwise


MOST_NAME = 128
MOST_DIGITS = 19
