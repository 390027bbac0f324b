"""``driftline publish``: a file of predictions to the topic."""

from __future__ import annotations

import asyncio
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from driftline.detectors.errors import OperatorError
from driftline.streams.cli_options import bootstrap_option, settings_of
from driftline.streams.files import count_rows, read_predictions
from driftline.streams.outbox import Outbox
from driftline.streams.terminal import printable, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from driftline.streams.config import Settings

CHUNK = 500
"""Records between two looks at the clock."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="At most N records a second.")
@click.option("--model", metavar="NAME", help="Model of rows that do not tell.")
@click.option("--version", metavar="NAME", help="Version of rows that do not tell.")
@click.option("--flush", "is_last", is_flag=True, help="Close the file's last windows: nothing follows it.")
@bootstrap_option
@click.pass_context
def publish(  # noqa: PLR0913 - one parameter an option
    context: click.Context,
    file: Path,
    rate: float | None,
    model: str | None,
    version: str | None,
    is_last: bool,  # noqa: FBT001 - click gives it by name
    bootstrap_servers: str | None,
) -> None:
    """Publish a FILE of predictions: JSON Lines, CSV or Parquet.

    The columns model, version, id, timestamp and prediction are what they say; every other column is a feature.

    A window closes when later records come. With --flush the file's own close without: at most the window under way,
    so leave it out where other services write to the topic and their records will do it.
    """
    settings = settings_of(context, bootstrap_servers)
    length = count_rows(file)
    documents = read_predictions(file, model, version)
    with click.progressbar(
        documents, length=length, label=printable(f"publishing {file}"), file=sys.stderr
    ) as progress:
        acknowledged = asyncio.run(publish_all(settings, progress, rate, is_last=is_last))
    say(f"{acknowledged} records acknowledged")


async def publish_all(
    settings: Settings, documents: Iterable[dict[str, Any]], rate: float | None, *, is_last: bool = False
) -> int:
    """Publish predictions and wait until Kafka has them.

    Parameters
    ----------
    settings
        Where Kafka is and how the topic is called.
    documents
        Predictions in the wire form; the id is the key.
    rate
        Records per second at most; None for as fast as it goes.
    is_last
        Whether to close the documents' windows with flush marks, for nothing follows them.

    Returns
    -------
    Number of records acknowledged: all of them.

    Raises
    ------
    KafkaUnreachable
        Where no broker answers.
    OperatorError
        Where a document can't be written as JSON or Kafka refuses it.
    """
    from driftline.streams.flush import Latest, flush  # noqa: PLC0415 - decoding, which `--help` has no use for

    chunk = CHUNK if rate is None else max(1, min(CHUNK, int(rate / 20)))
    clock = asyncio.get_running_loop().time
    latest = Latest(settings.plan.max_ahead_ms)
    remaining = latest.passing(documents) if is_last else iter(documents)
    sent = 0
    async with Outbox(settings.kafka, settings.topics.predictions) as outbox:
        began = clock()
        while records := list(islice(_records(remaining, sent), chunk)):
            for key, value in records:
                await outbox.send(value, key)
            sent += len(records)
            ahead_s = 0.0 if rate is None else began + sent / rate - clock()
            await asyncio.sleep(max(0.0, ahead_s))  # even 0 lets the connection work
        await outbox.flush()
        acknowledged = outbox.acknowledged
        if is_last:
            await flush(outbox, latest.event_ms)
    return acknowledged


def _records(documents: Iterator[dict[str, Any]], done: int) -> Iterator[tuple[bytes | None, bytes]]:
    """Yield keys and values."""
    for row, document in enumerate(documents, start=done + 1):
        told = document.get("id")
        try:
            yield None if told is None else str(told).encode(), orjson.dumps(document)
        except orjson.JSONEncodeError as error:
            raise OperatorError(f"row {row}: can't be written as JSON: {error}") from error
