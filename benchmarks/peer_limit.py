"""The limit: driftline's own arithmetic straight on what aiokafka fetched.

The same decoder, columns, histograms, constraints, ADWIN and half-space trees, but no Faust, no check of anything, no
watermark, no state that could be saved, no outputs, no metrics. What lies between it and the worker is the price of
being a worker. One model only.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from consuming import consume
from job import Job

from driftline.detectors.documents.baseline import Baseline
from driftline.detectors.documents.predictions import Prediction
from driftline.detectors.layout.columns import columns
from driftline.detectors.layout.vector_layout import Layout
from driftline.detectors.plan import Plan
from driftline.detectors.windows.events import violations
from driftline.detectors.windows.online_detectors import Online, outlier_scores

if TYPE_CHECKING:
    from collections.abc import Callable


def taker(layout: Layout) -> Callable[[int, list[Any]], None]:
    """Make the function that does the work on one batch of a partition."""
    decode = msgspec.json.Decoder(Prediction).decode
    detectors: dict[int, Online] = defaultdict(lambda: Online.fresh(layout))
    windows: dict[tuple[int, int], np.ndarray[Any, Any]] = defaultdict(layout.zero)

    def take(partition: int, records: list[Any]) -> None:
        predictions = [decode(record.value) for record in records]
        seen = columns(predictions, layout)
        violations(seen, layout)
        online = detectors[partition]
        online.feed(seen)
        outlier_scores([(online, seen)])
        start_ms = np.array([prediction.timestamp for prediction in predictions]) // layout.plan.window_ms
        for start in np.unique(start_ms).tolist():
            here = seen.cells[:, start_ms == start]
            windows[partition, start] += np.bincount(here.ravel(), minlength=layout.size)

    return take


def main(job: Job) -> None:
    """Consume the job's records."""
    (document,) = job.baseline_lines()
    asyncio.run(consume(job, taker(Layout.of(Baseline.from_json(document), Plan()))))


if __name__ == "__main__":
    main(Job.read(sys.argv[1]))
