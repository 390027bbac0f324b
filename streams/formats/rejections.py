"""Why a record was rejected, and how that is told: which field, what was found in it, and what was wanted."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from driftline.detectors.errors import NOTHING, RecordError

MOST_SHOWN = 48
"""Characters that are shown of what was found."""


class Rejection(NamedTuple):
    """One record that can't be used.

    Parameters
    ----------
    offset
        Which.
    reason, field, found, wanted
        As of a :class:`~driftline.detectors.errors.RecordError`.
    """

    offset: int
    reason: str
    field: str = ""
    found: object = NOTHING
    wanted: str = ""

    @classmethod
    def of(cls, offset: int, error: RecordError) -> Self:
        """The rejection of the record at an offset for what was raised about it."""
        return cls(offset, error.reason, error.field, error.found, error.wanted)

    @property
    def details(self) -> dict[str, str]:
        """Reason, and field, found and wanted as far as there is something to say."""
        found = "" if self.found is NOTHING else shown(self.found)
        told = {"reason": self.reason, "field": shown_name(self.field), "found": found, "wanted": self.wanted}
        return {name: text for name, text in told.items() if text}

    def __str__(self) -> str:
        told = self.details
        parts = [told["reason"], told.get("field"), told.get("found") and f"found {told['found']}"]
        return ": ".join(filter(None, [*parts, self.wanted and f"wanted {self.wanted}"]))


def shown(found: object) -> str:
    r"""What was found in a field, in printable ASCII of bounded length. Whatever shows a record's value does it by this.

    Of lists and objects only the size is told.

    Examples
    --------
    >>> shown("yester\nday"), shown(True), shown([1, 2]), shown("é" * 99)[-23:]
    ('"yester\\nday"', 'true', 'a list of 2', '\\xe9... (99 characters)')
    """
    if isinstance(found, Mapping):
        return f"an object of {len(found)}"
    if isinstance(found, str):
        more = f"... ({len(found)} characters)" if len(found) > MOST_SHOWN else ""
        return f'"{_escaped(found[:MOST_SHOWN])}{more}' + ("" if more else '"')
    if isinstance(found, Sequence):
        return f"a list of {len(found)}"
    if found is None or isinstance(found, bool):
        return {None: "null", True: "true", False: "false"}[found]
    if isinstance(found, int) and found.bit_length() > 64:
        return f"an integer of {found.bit_length()} bits"
    return _escaped(repr(found))[:MOST_SHOWN]


def shown_name(name: str) -> str:
    """A field's name, escaped and bounded likewise: a feature's is its producer's to choose."""
    return _escaped(name[:MOST_SHOWN])


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES).encode("ascii", "backslashreplace").decode()


_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), 127)}
_ESCAPES |= {ord(each): f"\\{letter}" for each, letter in zip('\t\n\r\\"', 'tnr\\"', strict=True)}
