"""Evidently, a drift report on the table of each window: the stability index of every signal, with charts, as it comes.

Its default tests, Wasserstein's and Jensen-Shannon's distances, take twice the time.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.metrics import RowCount
from evidently.presets import DataDriftPreset
from job import Job
from tables import report_on_windows

if TYPE_CHECKING:
    from collections.abc import Callable


def reporter(reference: list[dict[str, Any]]) -> Callable[[list[dict[str, Any]]], int]:
    """Make what compares a window with the reference."""
    numeric = [name for name, value in reference[0].items() if isinstance(value, float)]
    categorical = [name for name in reference[0] if name not in numeric]
    definition = DataDefinition(numerical_columns=numeric, categorical_columns=categorical)
    baseline = Dataset.from_pandas(pd.DataFrame(reference), data_definition=definition)
    report = Report([RowCount(), DataDriftPreset(method="psi")])

    def on(rows: list[dict[str, Any]]) -> int:
        window = Dataset.from_pandas(pd.DataFrame(rows), data_definition=definition)
        count, _drifted, *distances = report.run(window, baseline).dict()["metrics"]
        if len(distances) != len(numeric) + len(categorical):
            raise RuntimeError(f"distances of {len(distances)} signals only")
        return int(count["value"])

    return on


if __name__ == "__main__":
    asyncio.run(report_on_windows(Job.read(sys.argv[1]), reporter))
