"""What one model version in one partition costs in memory and in saved state, without Kafka.

As many partitions as there are states, each fed its own share of a log of many models, in a process that holds nothing
else that grows. The slope of resident memory over cells is what a cell costs; the half-space trees' part of it is known
from their arrays.
"""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from generator import START_MS, Work, baselines, values
from kafka_record import records_of

from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import Plan
from driftline.detectors.snapshots import profile_snapshot
from driftline.detectors.windows import profiling
from driftline.detectors.windows.profiling import PartitionState
from driftline.streams.formats import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

MODELS, PARTITIONS, RECORDS_PER_CELL, BATCH = 50, 8, 1_000, 4_000
WARM = 3
"""Partitions before the slope is taken: they fill what the interpreter had put by."""


def main() -> None:
    """Measure and print, as one line of JSON."""
    work = Work(MODELS * RECORDS_PER_CELL, models=MODELS, window_records=MODELS * RECORDS_PER_CELL)
    watch = Watch(Plan())
    for baseline in baselines(work):
        watch = watch.with_baseline(baseline)
    records = list(records_of(values(work), START_MS))
    states: list[PartitionState] = []
    resident = []
    for partition in range(PARTITIONS):
        states.append(fed(partition, records, watch))
        gc.collect()
        resident.append(resident_bytes())
    per_cell = float(np.polyfit(np.arange(WARM, PARTITIONS), resident[WARM:], 1)[0]) / MODELS
    trees = sum(map(tree_bytes, states[-1].cells.values())) / MODELS
    saved = [len(value) for _, value in profile_snapshot.dump(states[-1], watch)]
    print(
        json.dumps(
            {
                "cells": MODELS * PARTITIONS,
                "records_per_cell": RECORDS_PER_CELL,
                "resident_bytes": round(per_cell),
                "tree_bytes": round(trees),
                "saved_bytes": round(sum(saved) / MODELS),
            }
        )
    )


def fed(partition: int, records: Sequence[Any], watch: Watch) -> PartitionState:
    """Make the state of a partition that has taken in all records."""
    state = PartitionState(partition, PARTITIONS)
    for start in range(0, len(records), BATCH):
        batch, _ = wire.decode(records[start : start + BATCH], watch, 2**20)
        state, _ = profiling.step(state, batch, watch)
    return state


def tree_bytes(cell: Any) -> int:
    """Bytes of the arrays that the half-space trees of a cell hold."""
    return sum(each.nbytes for each in vars(cell.online.masses).values() if isinstance(each, np.ndarray))


def resident_bytes() -> int:
    """Resident memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
