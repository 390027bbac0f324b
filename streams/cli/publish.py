"""``driftline publish``: a file of predictions to the topic."""

from __future__ import annotations

import asyncio
import sys
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

import click
import orjson

from driftline.detectors.errors import OperatorError
from driftline.streams.cli.options import bootstrap_option, settings_of
from driftline.streams.files.options import reading_of, reading_options
from driftline.streams.terminal import printable, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from driftline.detectors.layout.watch import Watch
    from driftline.streams.config.settings import Settings
    from driftline.streams.files.prediction_rows import Predictions

CHUNK = 500
"""Records between two looks at the clock."""


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="At most N records a second.")
@click.option("--model", metavar="NAME", help="Model of the rows; a column of that name is then a feature.")
@click.option("--version", metavar="NAME", help="Version of the rows; likewise.")
@reading_options
@click.option("--sort", is_flag=True, help="Send the records by event time, not in the order of the file.")
@click.option("--dry-run", is_flag=True, help="Say what will become of the records, and send none.")
@click.option("--flush", "is_last", is_flag=True, help="Close the records' last windows: nothing follows them.")
@bootstrap_option
@click.pass_context
def publish(  # noqa: PLR0913 - one parameter an option
    context: click.Context,
    /,
    files: tuple[str, ...],
    rate: float | None,
    model: str | None,
    version: str | None,
    sort: bool,  # noqa: FBT001 - click gives it by name
    dry_run: bool,  # noqa: FBT001 - likewise
    is_last: bool,  # noqa: FBT001 - likewise
    bootstrap_servers: str | None,
    **options: Any,
) -> None:
    """Publish FILEs of predictions: CSV or other delimited text, JSON or Parquet; globs are taken.

    The columns model, version, id, timestamp and prediction are what they say, unless an option says otherwise; every
    other column is a feature. All is decoded as a worker would before anything is sent.

    A window closes when later records come. With --flush those of the files close without: at most the window under
    way, so leave it out where other services write to the topic and their records will do it.
    """
    from driftline.streams.client.publish_check import known_baselines  # noqa: PLC0415 - aiokafka, 0.2 s
    from driftline.streams.files.prediction_rows import opened_predictions  # noqa: PLC0415 - numpy, 0.1 s

    settings = settings_of(context, bootstrap_servers)
    reading = reading_of(files, model, version, options)
    watch = asyncio.run(known_baselines(settings))
    baselines = {key: layouts[-1].baseline for key, layouts in watch.layouts.items()}
    with opened_predictions(files, reading, baselines) as predictions:
        order = _examined(settings, predictions, watch, is_sorted=sort)
        if dry_run:
            return
        label = printable(f"publishing {files[0]}")
        documents = predictions.documents(order)
        with click.progressbar(documents, length=len(predictions), label=label, file=sys.stderr) as progress:
            acknowledged = asyncio.run(publish_all(settings, progress, rate, is_last=is_last))
    say(f"{acknowledged} records acknowledged")


def _examined(settings: Settings, predictions: Predictions, watch: Watch, *, is_sorted: bool) -> list[int] | None:
    """Say what will become of the records; return the order in which they are to be sent, None for the file's.

    Raises
    ------
    OperatorError
        Where none of them would be used.
    """
    from driftline.streams.client.publish_check import examine, newest_time, report  # noqa: PLC0415 - aiokafka, 0.2 s

    for note in predictions.table.notes:
        say(f"driftline: {note}", err=True)
    now_ms, n = time.time_ns() // 1_000_000, len(predictions)
    with click.progressbar(predictions.documents(), length=n, label="checking", file=sys.stderr) as progress:
        found = examine(progress, n, watch, now_ms, settings.worker.max_record_bytes)
    newest_ms = asyncio.run(newest_time(settings, watch))
    lines = list(report(found, watch, newest_ms, is_sorted=is_sorted))
    if not found.usable.size:
        raise OperatorError("; ".join(lines))
    for line in lines:
        say(f"driftline: {line}", err=True)
    return found.by_time if is_sorted else None


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
    from driftline.streams.client.flush import Latest, flush  # noqa: PLC0415 - decoding, which `--help` has no use for
    from driftline.streams.kafka.outbox import Outbox  # noqa: PLC0415 - aiokafka, 0.2 s

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
