"""What reaches a terminal: names, levels and messages come from topics and files, and must not command it."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def printable(text: str) -> str:
    r"""Return a text on one line, without control characters, escape sequences and overrides of the direction.

    Examples
    --------
    >>> printable("red \x1b[31m"), printable("two\nlines"), printable("\u202egnp.exe")
    ('red ?[31m', 'two?lines', '?gnp.exe')
    """
    return "".join(character if character.isprintable() else "?" for character in text)


def clock(time_ms: int) -> str:
    """Return an event time for people; one that no calendar has, as the number it is.

    Examples
    --------
    >>> clock(1_357_034_400_000), clock(10**17)
    ('2013-01-01 10:00:00Z', '100000000000000000 ms')
    """
    try:
        return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


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


@contextmanager
def working(text: str) -> Iterator[None]:
    """Show on a terminal that something is going on; leave no trace of it afterwards."""
    shown = f"{printable(text)} ..." if sys.stderr.isatty() else ""
    click.echo(shown, nl=False, err=True)
    try:
        yield
    finally:
        click.echo(f"\r{' ' * len(shown)}\r" if shown else "", nl=False, err=True)


@contextmanager
def progress(label: str, length: int) -> Iterator[Callable[[], None]]:
    """Show on a terminal how much of a known length is done; what is yielded is called once for each step."""
    steps = max(1, length)
    bar = click.progressbar(length=steps, label=printable(label), file=sys.stderr, update_min_steps=steps // 200 + 1)
    with bar as shown:
        yield lambda: shown.update(1)
