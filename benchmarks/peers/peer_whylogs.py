"""whylogs, a profile of the table of each window and its own tests of drift: Kolmogorov-Smirnov's and chi-square."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pandas as pd
import whylogs
from job import Job
from tables import report_on_windows
from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

if TYPE_CHECKING:
    from collections.abc import Callable


def reporter(reference: list[dict[str, Any]]) -> Callable[[list[dict[str, Any]]], int]:
    """Make what compares a window with the reference."""
    baseline = whylogs.log(pd.DataFrame(reference)).view()

    def on(rows: list[dict[str, Any]]) -> int:
        window = whylogs.log(pd.DataFrame(rows)).view()
        scores = calculate_drift_scores(target_view=window, reference_view=baseline)
        if found := [name for name in reference[0] if scores.get(name) is None]:
            raise RuntimeError(f"no score of {', '.join(found)}")
        return int(window.get_column("prediction").get_metric("counts").n.value)

    return on


if __name__ == "__main__":
    asyncio.run(report_on_windows(Job.read(sys.argv[1]), reporter))
