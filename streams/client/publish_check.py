"""What will become of predictions: decoded and placed as a worker would, before any is sent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from driftline.detectors.documents.baseline import PREDICTION, Baseline
from driftline.detectors.errors import OperatorError
from driftline.detectors.layout.watch import ModelKey, Watch
from driftline.detectors.names import is_name
from driftline.streams.formats.wire import LOG_APPEND_TIME, decode
from driftline.streams.kafka.reader import RecordReader, TopicReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from driftline.detectors.arrays import I64
    from driftline.detectors.plan import Plan
    from driftline.streams.config.settings import Settings

CHUNK = 2_000
SECOND_MS, DAY_MS = 1_000, 86_400_000
WINDOWS_MS = tuple(
    length * SECOND_MS
    for length in (1, 10, 60, 300, 900, 3_600, 6 * 3_600, 86_400, 7 * 86_400, 30 * 86_400, 365 * 86_400)
)
"""Lengths of windows that are proposed."""
ENOUGH = 0.9
"""Share of the windows that must hold enough records for a length to suit."""
NO_TIME = -1


@dataclass(slots=True)
class Sample:
    """One record as a consumer would get it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    value: bytes | None


@dataclass
class Examined:
    """What n documents would be to a worker.

    Parameters
    ----------
    event_ms
        Event times, shape (n,); -1 of documents that can't be used.
    codes
        Place of each one's model version in ``keys``, shape (n,); -1 likewise.
    keys
        Model versions, in the order of their first document.
    refused
        Reason to number of documents.
    first
        Reason to number of the first row, from 1.
    untimed, silent
        Documents without a time of their own, and without a prediction.
    """

    event_ms: I64
    codes: I64
    keys: list[ModelKey] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)
    untimed: int = 0
    silent: int = 0

    @property
    def n(self) -> int:
        """Documents."""
        return int(self.event_ms.size)

    @property
    def usable(self) -> I64:
        """Event times of the documents that would be used, in their order."""
        found: I64 = self.event_ms[self.event_ms >= 0]
        return found

    @property
    def by_time(self) -> list[int]:
        """Numbers of the rows, from 0, by event time; one that can't be used stays behind the one before it."""
        filled = np.maximum.accumulate(np.where(self.event_ms >= 0, np.arange(self.n), 0))
        order: list[int] = self.event_ms[filled].argsort(kind="stable").tolist()
        return order

    def refuse(self, rows: I64, reason: str) -> None:
        """Count rows as refused."""
        if rows.size:
            self.refused[reason] += rows.size
            self.first[reason] = min(self.first.get(reason, self.n), int(rows[0]) + 1)
            self.event_ms[rows] = NO_TIME


async def known_baselines(settings: Settings) -> Watch:
    """The plan and the baselines that the topic holds; one that a worker would refuse is passed over."""
    watch = Watch(settings.plan)
    async with TopicReader(settings.kafka, settings.topics.baselines, Baseline, "beginning", "end") as found:
        async for each in found:
            try:
                watch = watch.with_baseline(each.checked())
            except OperatorError:
                continue
    return watch


async def newest_time(settings: Settings, watch: Watch) -> int | None:
    """Newest event time among the last records of the predictions topic's partitions; None where there is none."""
    topic = settings.topics.predictions
    async with RecordReader(settings.kafka, topic, 20, "end") as found:
        records = [record async for record in found]
    times = [decode([each], watch, settings.worker.max_record_bytes)[0].event_ms for each in records]
    return max((int(each.max()) for each in times if each.size), default=None)


def examine(documents: Iterable[dict[str, Any]], n: int, watch: Watch, now_ms: int, max_bytes: int) -> Examined:
    """Decode documents as a worker would, and find out which it would use and at which time.

    Parameters
    ----------
    documents, n
        The documents and their number.
    watch
        Plan and baselines.
    now_ms
        The time at which they would be published.
    max_bytes
        Of a record that a worker reads.
    """
    found = Examined(np.full(n, NO_TIME, np.int64), np.full(n, -1, np.int64))
    places: dict[ModelKey, int] = {}
    remaining, start = iter(documents), 0
    while chunk := list(islice(remaining, CHUNK)):
        records = [
            Sample("", 0, row, now_ms, LOG_APPEND_TIME, _encoded(document, row))
            for row, document in enumerate(chunk, start=start)
        ]
        start += len(chunk)
        found.untimed += sum(document.get("timestamp") is None for document in chunk)
        found.silent += sum(document.get(PREDICTION, document.get("output")) is None for document in chunk)
        batch, rejected = decode(records, watch, max_bytes)
        for each in rejected:
            found.refuse(np.array([each[0]]), each[1])
        keys = [(prediction.model, prediction.version) for prediction in batch.predictions]
        found.codes[batch.offsets] = [places.setdefault(key, len(places)) for key in keys]
        found.event_ms[batch.offsets] = batch.event_ms
    found.keys = list(places)
    _refuse_unwatched(found, watch, now_ms)
    return found


def _encoded(document: dict[str, Any], row: int) -> bytes:
    try:
        return orjson.dumps(document)
    except (orjson.JSONEncodeError, UnicodeEncodeError) as error:
        raise OperatorError(f"row {row + 1}: can't be written as JSON: {error}") from error


def _refuse_unwatched(found: Examined, watch: Watch, now_ms: int) -> None:
    """Refuse what decodes and yet would not be counted."""
    window_ms = watch.plan.window_ms
    found.refuse((found.event_ms > now_ms + watch.plan.max_ahead_ms).nonzero()[0], "ahead")
    for code, key in enumerate(found.keys):
        rows = ((found.codes == code) & (found.event_ms >= 0)).nonzero()[0]
        if key not in watch.layouts:
            found.refuse(rows, "unknown_model" if all(map(is_name, key)) else "bad_name")
            continue
        starts = found.event_ms[rows] - found.event_ms[rows] % window_ms
        unjudged = [start for start in np.unique(starts).tolist() if watch.effective(key, start) is None]
        found.refuse(rows[np.isin(starts, unjudged)], "no_baseline_yet")


def report(found: Examined, watch: Watch, newest_ms: int | None, *, is_sorted: bool) -> Iterator[str]:
    """What will become of the documents, one line each thing.

    Parameters
    ----------
    found
        What they were found to be.
    watch
        Plan and baselines.
    newest_ms
        Newest event time that the topic holds.
    is_sorted
        Whether they will be sent by event time.
    """
    usable = found.usable
    yield f"{usable.size} of {found.n} records will be used" + _range(usable)
    for reason, count in found.refused.most_common():
        yield f"{count} records will be refused as {reason}, the first at row {found.first[reason]}{_remedy(reason, found)}"
    if not usable.size:
        return
    if found.silent:
        yield f"{found.silent} records have no prediction; name its column with --prediction"
    if found.untimed:
        yield f"{found.untimed} records have no time and count when they are published; name the column with --timestamp"
    yield from _lateness(np.sort(usable) if is_sorted else usable, newest_ms, watch.plan)
    yield from _windows(found, watch.plan)


def _range(usable: I64) -> str:
    return f", of {_moment(int(usable.min()))} to {_moment(int(usable.max()))}" if usable.size else ""


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _remedy(reason: str, found: Examined) -> str:
    if reason == "unknown_model":
        return f": {_unknown(found)}; publish its baseline with `driftline baseline publish FILE`, or name another with --model and --version"
    return {
        "no_baseline_yet": ": their windows begin before the baseline is in force; publish it with --effective-from",
        "ahead": ": their times lie in the future",
        "bad_timestamp": ": name the column of the time with --timestamp",
    }.get(reason, "")


def _unknown(found: Examined) -> str:
    model, version = found.keys[int(found.codes[found.first["unknown_model"] - 1])]
    return f"no baseline of model {model!r}, version {version!r}"


def _lateness(event_ms: I64, newest_ms: int | None, plan: Plan) -> Iterator[str]:
    """Warnings of records that will be late, whose windows are closed when they come."""
    closes_ms = event_ms - event_ms % plan.window_ms + plan.window_ms + plan.lateness_ms
    disordered = int((closes_ms <= np.maximum.accumulate(event_ms)).sum())
    if disordered:
        yield (
            f"{disordered} records stand behind others that are later by more than the lateness, {plan.lateness_ms} ms, "
            "and will not count in their own windows: --sort sends them by time"
        )
    old = 0 if newest_ms is None else int((closes_ms <= newest_ms).sum())
    if old and newest_ms is not None:
        yield (
            f"{old} records belong to windows that the topic has passed: its newest time is {_moment(newest_ms)}; they "
            "will be late. Give such a log a topic of its own (topics.predictions)"
        )


def _windows(found: Examined, plan: Plan) -> Iterator[str]:
    """Warnings of windows that will hold too few records to be judged."""
    for code, (model, version) in enumerate(found.keys):
        event_ms = found.event_ms[(found.codes == code) & (found.event_ms >= 0)]
        needed = plan.rows_needed(model)
        counts = _whole_windows(event_ms, plan.window_ms)
        few = int((counts < needed).sum())
        if few <= counts.size * (1 - ENOUGH):
            continue
        suitable = suitable_window_ms(event_ms, needed)
        advice = f"plan.window_ms = {suitable} would suit" if suitable else "no length of windows would suit"
        yield (
            f"{model} {version}: {few} of {counts.size} windows of {plan.window_ms} ms will hold fewer than "
            f"{needed} records (min_rows) and be insufficient; {advice}"
        )


def suitable_window_ms(event_ms: I64, needed: int) -> int | None:
    """Shortest of the usual lengths of windows with which nine windows in ten hold enough records; None if none is.

    Parameters
    ----------
    event_ms
        Event times.
    needed
        How many records are enough.

    Examples
    --------
    A record every ten seconds: 60 make ten minutes, so windows of a quarter of an hour.

    >>> suitable_window_ms(np.arange(1_000) * 10_000, 60)
    900000
    """
    for window_ms in WINDOWS_MS:
        counts = _whole_windows(event_ms, window_ms)
        if counts.size and (counts >= needed).mean() >= ENOUGH:
            return window_ms
    return None


def _whole_windows(event_ms: I64, window_ms: int) -> I64:
    """Records per window; without the first and the last one, which the file may cut off, where there are others."""
    counts: I64 = np.unique(event_ms // window_ms, return_counts=True)[1]
    return counts[1:-1] if counts.size > 2 else counts
