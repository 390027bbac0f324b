"""A text that must not be shown."""

from __future__ import annotations

MASK = "********"


class Secret:
    """A text that no representation, dump or message shows.

    Parameters
    ----------
    text
        The secret.

    Examples
    --------
    >>> Secret("hunter2")
    '********'
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret, for whoever authenticates with it."""
        return self._text

    def __repr__(self) -> str:
        return repr(MASK)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)
