"""``driftline dead-letters``: records that could not be used, and how to publish them again."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import click

from driftline.detectors.errors import REASONS, OperatorError
from driftline.streams.cli.options import answer_option, ask, settings_of
from driftline.streams.cli.read import STARTS, reading_options
from driftline.streams.formats.letters import Counts, Letter, letter_of, table
from driftline.streams.kafka.reader import RecordReader, Stop
from driftline.streams.terminal import clock, printable, progress, say

if TYPE_CHECKING:
    from driftline.streams.config.settings import Settings

SHOWN_BYTES = 72
"""Of a rejected record."""


@click.command("dead-letters")
@click.option(
    "--reason", "reasons", type=click.Choice(list(REASONS)), multiple=True, metavar="NAME",
    help="Only of this reason. Give it once for each.",
)  # fmt: skip
@click.option("--summary", "form", flag_value="summary", help="Only counts, by reason and field, of all that is kept.")
@click.option("--resend", "form", flag_value="resend", help="Publish them to the predictions again, each once.")
@answer_option
@reading_options
def dead_letters(  # noqa: PLR0913 - one for each option
    context: click.Context,
    bootstrap_servers: str | None,
    start: str,
    stop: Stop,
    form: str,
    reasons: tuple[str, ...],
    answer: str,
) -> None:
    """Print records that could not be used: time, origin, reason, what was wrong, and their first bytes.

    After the cause is mended, --resend publishes them again as they were.
    """
    settings = settings_of(context, bootstrap_servers)
    if form == "resend":
        from driftline.streams.client.resending import Resending  # noqa: PLC0415 - only this has use for a producer

        _resend(Resending(settings, frozenset(reasons)), answer)
    elif form == "summary":
        if stop == "never":
            raise OperatorError("--summary counts up to the topic's end: leave --follow out")
        asyncio.run(_summarise(settings, reasons))
    else:
        reader = RecordReader(settings.kafka, settings.topics.dead_letters, STARTS[start], stop)
        asyncio.run(_print(reader, reasons, as_json if form == "json" else letter_lines))


async def _print(reader: RecordReader, reasons: tuple[str, ...], lines: Any) -> None:
    async with reader:
        async for record in reader:
            letter = letter_of(record)
            if letter is not None and (not reasons or letter.reason in reasons):
                click.echo(lines(letter))


async def _summarise(settings: Settings, reasons: tuple[str, ...]) -> None:
    counts = Counts()
    async with RecordReader(settings.kafka, settings.topics.dead_letters, "beginning", "end") as reader:
        with progress("counting", reader.size) as advance:
            async for record in reader:
                advance()
                letter = letter_of(record)
                if letter is not None and (not reasons or letter.reason in reasons):
                    counts.add((letter.reason, letter.field, letter.wanted))
    rows: list[tuple[str, ...]] = [("COUNT", "REASON", "FIELD", "WANTED")]
    rows += [(str(n), *map(printable, name)) for name, n in counts.ranked()]
    for line in table(rows) if len(rows) > 1 else ["no dead letters"]:
        say(line)


def _resend(resending: Any, answer: str) -> None:
    found = asyncio.run(resending.look())
    for sentence in found.sentences():
        say(sentence)
    if not found.due:
        return
    ask("send them?", answer)
    sent = asyncio.run(resending.send(found))
    say(f"{sent} records acknowledged")


def letter_lines(letter: Letter) -> str:
    r"""Return a dead letter for people: what was wrong, and below it the record's first bytes.

    Examples
    --------
    >>> print(letter_lines(Letter(time_ms=0, place=(0, 0), topic="predictions", partition=3, offset=17,
    ...     reason="missing_field", field="version", wanted="text", size=17, value=b'{"model": "m\x1b"}')))
    1970-01-01 00:00:00Z  predictions[3]@17  missing_field  version: wanted text
        {"model": "m\x1b"}
    """
    wrong = "; ".join(f"{word} {said}" for word, said in (("found", letter.found), ("wanted", letter.wanted)) if said)
    parts = [
        clock(letter.time_ms),
        f"{letter.topic}[{letter.partition}]@{letter.offset}",
        letter.reason,
        ": ".join(filter(None, (letter.field, wrong))),
    ]
    text = letter.value[:SHOWN_BYTES].decode(errors="backslashreplace") + ("..." if letter.size > SHOWN_BYTES else "")
    shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    nothing = "(redacted: it may hold sensitive values)" if letter.redacted else "(no value)"
    return f"{printable('  '.join(parts).rstrip())}\n    {shown or nothing}"


def as_json(letter: Letter) -> str:
    """Return a dead letter as one line of JSON; bytes that are not UTF-8 show as the replacement character."""
    document = {
        name: getattr(letter, name) for name in letter.__struct_fields__ if name not in ("place", "value", "written_ms")
    }
    return json.dumps({**document, "value": letter.value.decode(errors="replace")})
