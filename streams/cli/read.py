"""``driftline alerts`` and ``driftline windows``: what the workers found."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import click
import msgspec

from driftline.detectors.documents.alerts import Alert
from driftline.detectors.errors import OperatorError
from driftline.streams.cli.options import bootstrap_option, settings_of
from driftline.streams.cli.window_summary import Summary, insufficient, summarised
from driftline.streams.kafka.reader import Start, Stop, TopicReader
from driftline.streams.terminal import clock, printable, progress, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from driftline.detectors.verdicts.decide import Verdict

RECENT = 20
"""Records of each partition that are printed unless all are asked for."""
MOST_NAMED = 3
"""Signals that a verdict's line names."""


def reading_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of reading."""
    every = f"All that the topic keeps, not only the newest {RECENT} of each partition."
    for option in (
        click.pass_context,
        bootstrap_option,
        click.option("--json", "form", flag_value="json", default="line", help="One JSON document a line."),
        click.option("--from-beginning", "start", flag_value="beginning", default="recent", help=every),
        click.option("--follow", "stop", flag_value="never", default="end", help="Go on with new ones until Ctrl-C."),
    ):
        command = option(command)
    return command


@click.command()
@reading_options
def alerts(context: click.Context, bootstrap_servers: str | None, start: str, stop: Stop, form: str) -> None:
    """Print alerts: time, state, severity, kind, model version and what to do about it."""
    settings = settings_of(context, bootstrap_servers)
    reader = TopicReader(settings.kafka, settings.topics.alerts, Alert, STARTS[start], stop)
    asyncio.run(print_all(reader, FORMS[form] or alert_line))


@click.command()
@click.option("--summary", "form", flag_value="summary", help="Counts of all that is kept, by model version.")
@reading_options
def windows(context: click.Context, bootstrap_servers: str | None, start: str, stop: Stop, form: str) -> None:
    """Print the verdict on every judged window: start, model version, records, and the signals that moved most."""
    from driftline.detectors.verdicts.decide import Verdict  # noqa: PLC0415 - brings scipy

    settings = settings_of(context, bootstrap_servers)
    if form == "summary" and stop == "never":
        raise OperatorError("--summary counts up to the topic's end: leave --follow out")
    begin = "beginning" if form == "summary" else STARTS[start]
    reader = TopicReader(settings.kafka, settings.topics.windows, Verdict, begin, stop)
    summaries: dict[tuple[str, str], Summary] = defaultdict(Summary)
    if form == "summary":
        asyncio.run(_summarise(reader, summaries))
        for line in (
            summarised(summaries, settings.plan)
            if summaries
            else [f"no verdict in topic {settings.topics.windows!r} yet"]
        ):
            say(line)
        return

    def seen(verdict: Verdict) -> None:
        summaries[verdict.model, verdict.version].take(verdict)

    asyncio.run(print_all(reader, FORMS[form] or verdict_line, id if stop == "never" else seen))
    for (model, version), found in summaries.items():
        if hint := insufficient(found, settings.plan.rows_needed(model)):
            say(f"driftline: {model} {version}: {hint}", err=True)


async def _summarise(reader: TopicReader[Verdict], summaries: dict[tuple[str, str], Summary]) -> None:
    async with reader:
        with progress("reading verdicts", reader.size) as advance:
            async for verdict in reader:
                advance()
                summaries[verdict.model, verdict.version].take(verdict)
    _tell_undecodable(reader)


async def print_all(reader: TopicReader[Any], line: Callable[[Any], str], seen: Callable[[Any], object] = id) -> None:
    """Print documents until the reader ends, a line each."""
    async with reader:
        async for document in reader:
            seen(document)
            click.echo(line(document))
    _tell_undecodable(reader)


def _tell_undecodable(reader: TopicReader[Any]) -> None:
    if reader.undecodable:
        say(f"driftline: passed over {reader.undecodable} records that this version can't read", err=True)


def alert_line(alert: Alert) -> str:
    """Return an alert for people.

    Examples
    --------
    >>> from driftline.detectors.documents.alerts import Window
    >>> print(alert_line(Alert(state="firing", kind="drift", severity="warning", model="churn", version="v3",
    ...     signal="age", detector="marginal", value=0.3, threshold=0.005, n=500, window=Window(0, 60_000),
    ...     time_ms=60_000, baseline="", plan="", summary="age moved.")))
    1970-01-01 00:01:00Z  firing    warning   drift         churn v3          age moved.
    """
    parts = [
        clock(alert.time_ms),
        f"{alert.state:<8}",
        f"{alert.severity:<8}",
        f"{alert.kind:<12}",
        f"{alert.model} {alert.version}".ljust(16),
        alert.summary,
    ]
    return printable("  ".join(parts))


def verdict_line(verdict: Verdict) -> str:
    """Return a verdict for people: ``1970-01-01 00:00:00Z  churn v3  n=500  late=0  drift  age p=1e-09``."""
    moved = [(signal.p_value, name) for name, signal in verdict.signals.items() if signal.drift]
    moved.sort(key=lambda each: 0.0 if each[0] is None else each[0])
    named = [name if p_value is None else f"{name} p={p_value:.1g}" for p_value, name in moved[:MOST_NAMED]]
    if len(moved) > MOST_NAMED:
        named.append(f"{len(moved) - MOST_NAMED} more")
    if verdict.outliers.drift:
        named.append(f"outliers {verdict.outliers.outliers} of {verdict.outliers.scored}")
    parts = [
        clock(verdict.window.start_ms),
        f"{verdict.model} {verdict.version}".ljust(16),
        f"n={verdict.n:<7}",
        f"late={verdict.late:<4}",
        f"{verdict.status:<12}",
        ", ".join(named) if verdict.final else ", ".join(["provisional", *named]),
    ]
    return printable("  ".join(parts).rstrip())


def as_json(document: msgspec.Struct) -> str:
    """Return a document as one line of JSON; what could command a terminal is escaped."""
    text = msgspec.json.encode(document).decode()
    return text if text.isprintable() else json.dumps(json.loads(text))


STARTS: dict[str, Start] = {"recent": RECENT, "beginning": "beginning"}
FORMS: dict[str, Callable[[Any], str] | None] = {"line": None, "json": as_json}
