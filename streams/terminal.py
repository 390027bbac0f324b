"""What reaches a terminal: names, levels and messages come from topics and files, and must not command it."""

from __future__ import annotations

import logging

import click


def printable(text: str) -> str:
    r"""Return a text on one line, without control characters, escape sequences and overrides of the direction.

    Examples
    --------
    >>> printable("red \x1b[31m"), printable("two\nlines"), printable("\u202egnp.exe")
    ('red ?[31m', 'two?lines', '?gnp.exe')
    """
    return "".join(character if character.isprintable() else "?" for character in text)


def say(text: str, *, err: bool = False) -> None:
    """Print one line; on standard error where it is no answer."""
    click.echo(printable(text), err=err)


class OnOneLine(logging.Filter):
    """Keeps log messages printable: a traceback below one has lines of its own."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace what is not printable."""
        message = record.getMessage()
        if not message.isprintable():
            record.msg, record.args = printable(message), ()
        return True
