"""``driftline status``: how far the workers are, and what they reject."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import click
import msgspec

from driftline.streams.cli.options import app_id_option, bootstrap_option, settings_of
from driftline.streams.formats.letters import table
from driftline.streams.terminal import clock, printable, say, working

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from driftline.streams.client.status import Lag, Status

MOST_ROWS = 20
"""Rows of each table."""


@click.command()
@click.option("--json", "form", flag_value="json", default="tables", help="All of it as one JSON document.")
@app_id_option
@bootstrap_option
@click.pass_context
def status(context: click.Context, form: str, app_id: str | None, bootstrap_servers: str | None) -> None:
    """Show how far the workers are and what they reject: lag, watermarks, verdicts, dead letters, baselines.

    Kafka is asked, not the workers: what they have committed, and the newest records on their topics.
    """
    from driftline.streams.client.status import status_of  # noqa: PLC0415 - numpy, scipy, aiokafka

    settings = settings_of(context, bootstrap_servers, app_id)
    with working("asking Kafka"):
        found = asyncio.run(status_of(settings))
    if form == "json":
        click.echo(json.dumps(msgspec.to_builtins(found, str_keys=True)))
        return
    for line in tables(found):
        say(line)


def tables(found: Status) -> Iterator[str]:
    """Yield the lines for people, each short enough for a terminal of 80 columns."""
    yield f"workers of {found.app_id}: {len(found.workers)} ({found.group})"
    yield from _table("LAG", _lags(found), "no partitions")
    verdicts = [
        (
            each.model,
            each.version,
            clock(each.start_ms),
            str(each.n),
            each.status + ("" if each.final else ", provisional"),
        )
        for each in found.verdicts
    ]
    yield from _table("LAST VERDICT", verdicts, "none yet", ("MODEL", "VERSION", "WINDOW", "RECORDS", "STATUS"))
    rejected = [(each.reason, each.model, each.version, str(each.n)) for each in found.rejected]
    yield from _table("REJECTED, of the newest", rejected, "nothing", ("REASON", "MODEL", "VERSION", "RECORDS"))
    baselines = [
        (each.model, each.version, each.hash[:8], _since(each.effective_from_ms), str(each.rows), str(each.signals))
        for each in found.baselines
    ]
    yield from _table("BASELINES", baselines, "none", ("MODEL", "VERSION", "HASH", "IN FORCE FROM", "ROWS", "SIGNALS"))


def _lags(found: Status) -> list[tuple[str, ...]]:
    """One row for each partition, the most lagging first; of each topic the sum in a row before."""
    rows: list[tuple[str, ...]] = [("TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "WATERMARK")]
    predictions = found.lags[0].topic if found.lags else ""
    for topic in dict.fromkeys(each.topic for each in found.lags):
        own = [each for each in found.lags if each.topic == topic]
        rows.append((topic, "all", "", "", str(sum(each.records for each in own)), ""))
        rows += [_lag(each, found if topic == predictions else None) for each in _most_lagging(own)]
    return rows


def _lag(each: Lag, found: Status | None) -> tuple[str, ...]:
    closed_ms = found.watermarks.get(each.partition) if found else None
    committed = str(each.committed) if each.committed >= 0 else "-"
    told = "" if closed_ms is None else clock(closed_ms)
    return "", str(each.partition), committed, str(each.end), str(each.records), told


def _most_lagging(own: Sequence[Lag]) -> Sequence[Lag]:
    return sorted(own, key=lambda each: (-each.records, each.partition))[:MOST_ROWS]


def _table(title: str, rows: Sequence[tuple[str, ...]], nothing: str, head: tuple[str, ...] = ()) -> Iterator[str]:
    yield ""
    if not rows:
        yield f"{title}: {nothing}"
        return
    yield title
    shown = [head, *rows[:MOST_ROWS]] if head else rows
    yield from table(tuple(map(printable, row)) for row in shown)
    if head and len(rows) > MOST_ROWS:
        yield f"... and {len(rows) - MOST_ROWS} more; --json has all"


def _since(effective_from_ms: int) -> str:
    return clock(effective_from_ms) if effective_from_ms else "the beginning"
