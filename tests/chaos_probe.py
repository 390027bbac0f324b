"""A worker that tells of every batch of predictions: ``python -m tests.chaos_probe FILE [arguments of driftline]``.

A line a batch: partition; wall clock when it was done, ms; records; milliseconds of CPU that it took; age of its oldest record, ms.
Age is what Kafka's timestamp says, so it holds the wait for whatever else the event loop and the machine did.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from driftline.streams.cli import main
from driftline.streams.engine.profiling_stage import ProfilingStage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from driftline.detectors.windows.profiling import PartitionState
    from driftline.streams.formats.wire import Raw


class Batch(NamedTuple):
    """One line."""

    partition: int
    at_ms: float
    n: int
    took_ms: float
    age_ms: float


def batches(path: Path) -> list[Batch]:
    """What a probe has written."""
    lines = path.read_text(encoding="ascii").splitlines()
    return [
        Batch(int(at), float(done), int(n), float(took), float(age)) for at, done, n, took, age in map(str.split, lines)
    ]


def probe(path: Path) -> None:
    """Write a line for every batch from now on."""
    step, lines = ProfilingStage.step, path.open("a", encoding="ascii", buffering=1)

    def timed(stage: ProfilingStage, state: PartitionState, records: Sequence[Raw]) -> Any:
        started = time.thread_time()
        result = step(stage, state, records)
        took_ms, now_ms = (time.thread_time() - started) * 1000, time.time() * 1000
        lines.write(
            f"{state.partition} {now_ms:.1f} {len(records)} {took_ms:.3f} {now_ms - records[0].timestamp:.1f}\n"
        )
        return result

    ProfilingStage.step = timed  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    probe(Path(sys.argv.pop(1)))
    main.main()
