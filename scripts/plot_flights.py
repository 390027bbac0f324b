#!/usr/bin/env python3
"""Draw what scripts/flights.py found: `plot_flights.py windows.jsonl flights.png`. Needs matplotlib and nothing of ours.

Above, a row a signal and a column a day, the darker the less that day is like January (PSI). Below, two shares of each
day's flights: those that never left (no departure delay) and those that are outliers as a whole.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.dates as mdates
import matplotlib.pyplot as plt
from matplotlib.colors import LogNorm

ORDER = (
    "prediction", "dep_delay", "carrier", "origin", "dest", "hour", "distance",
    "temp", "humid", "pressure", "wind_speed", "visib", "precip",
)  # fmt: skip
NAMED = 7
"""Days that the picture names, those of the highest share."""
APART_DAYS = 14
"""A day so close to one that is named already goes without a name."""


def main(source: Path, target: Path) -> None:
    """Read verdicts, one JSON document a line, and write the picture."""
    verdicts = [json.loads(line) for line in source.read_text().splitlines()]
    days = [datetime.fromtimestamp(each["window"]["start_ms"] / 1000, UTC) for each in verdicts]
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(11, 6.2), sharex=True, height_ratios=[3, 2], layout="constrained"
    )
    draw_psi(figure, above, verdicts, days)
    draw_shares(below, verdicts, days)
    figure.savefig(target, dpi=110)


def draw_psi(figure: Any, axes: Any, verdicts: list[dict[str, Any]], days: list[datetime]) -> None:
    """Draw the rows of signals."""
    psi = [[max(each["signals"][name]["scores"]["psi"], 1e-3) for each in verdicts] for name in ORDER]
    mesh = axes.pcolormesh(days, range(len(ORDER)), psi, norm=LogNorm(0.02, 5), cmap="magma_r", shading="nearest")
    axes.set_yticks(range(len(ORDER)), ORDER)
    axes.invert_yaxis()
    axes.set_title("Flights from New York in 2013, each day against a baseline of January", loc="left", fontsize=11)
    bar = figure.colorbar(mesh, ax=axes, pad=0.01, ticks=[0.02, 0.1, 0.25, 1, 5], label="PSI")
    bar.ax.set_yticklabels(["0.02", "0.1", "0.25", "1", "5"])
    bar.ax.minorticks_off()


def draw_shares(axes: Any, verdicts: list[dict[str, Any]], days: list[datetime]) -> None:
    """Draw the two shares, and name the days of their peaks."""
    lost = [each["signals"]["dep_delay"]["missing"] / each["n"] for each in verdicts]
    odd = [each["outliers"]["outliers"] / max(1, each["outliers"]["scored"]) for each in verdicts]
    for shares, colour, label in ((lost, "#b2182b", "never left"), (odd, "#2166ac", "outliers as a whole")):
        axes.vlines(days, 0, shares, color=colour, alpha=0.35 if shares is odd else 0.9, lw=1.6, label=label)
    named: list[datetime] = []
    height = [max(pair) for pair in zip(lost, odd, strict=True)]
    for share, day in sorted(zip(height, days, strict=True), reverse=True):
        if len(named) < NAMED and all(abs((day - other).days) >= APART_DAYS for other in named):
            named.append(day)
            axes.annotate(f"{day:%b} {day.day}", (mdates.date2num(day), share), ha="center", va="bottom", fontsize=8)
    axes.set_ylabel("share of the day's flights")
    axes.set_ylim(0, max(height) * 1.15)
    axes.legend(frameon=False, fontsize=8, loc="upper center")
    axes.xaxis.set_major_locator(mdates.MonthLocator())
    axes.xaxis.set_major_formatter(mdates.DateFormatter("%b"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
