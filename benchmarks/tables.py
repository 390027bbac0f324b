"""Windows as tables, for the peers that report on a table which somebody has collected; they share all but the report."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import orjson
from consuming import reading
from job import WINDOW_MS
from meter import Stopwatch, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from job import Job

    Row = dict[str, Any]


class Collector:
    """Rows of one model by windows of event time, until no partition can bring another row of a window.

    Within a partition, records come in the order of event time.

    Parameters
    ----------
    partitions
        Number of partitions.
    """

    def __init__(self, partitions: int) -> None:
        self._highest_ms = [-1] * partitions
        self._windows: defaultdict[int, list[Row]] = defaultdict(list)

    def take(self, partition: int, values: Iterable[bytes]) -> list[list[Row]]:
        """Take in values of a partition; return the windows that are complete with them, the oldest first."""
        for value in values:
            record = orjson.loads(value)
            self._highest_ms[partition] = event_ms = record["timestamp"]
            self._windows[event_ms // WINDOW_MS].append(row(record))
        passed = min(self._highest_ms) // WINDOW_MS
        return [self._windows.pop(window) for window in sorted(self._windows) if window < passed]


def row(record: dict[str, Any]) -> Row:
    """One value per signal, by its name."""
    features: Row = record["features"]
    return features | {"prediction": record["prediction"]}


async def report_on_windows(job: Job, reporter: Callable[[list[Row]], Callable[[list[Row]], int]]) -> None:
    """Have a tool report on one window after another until it has seen as many records as the job says; measure it.

    Parameters
    ----------
    job
        Which log, and how many records of it, whole windows.
    reporter
        Makes, of the reference's rows, what reports on a window's rows and returns how many of them the tool has seen.
    """
    reference = [row(orjson.loads(line)) for line in job.reference_lines()]
    report = reporter(reference)
    report(reference)  # what is loaded and made at the first report is not a window's cost
    collector = Collector(job.partitions)
    async with reading(job) as consumer:
        settle()
        stopwatch, seen = Stopwatch(), 0
        stopwatch.saw(0)  # starts the clock: from here on every row and every window counts
        while seen < job.records:
            for place, records in (await consumer.getmany(timeout_ms=1000)).items():
                for rows in collector.take(place.partition, (record.value for record in records)):
                    if (said := report(rows)) != len(rows):
                        raise RuntimeError(f"a window of {len(rows)} rows, and the report is on {said}")
                    seen += said
                    stopwatch.saw(said)
        stopwatch.stop()
