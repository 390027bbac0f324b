"""From docs/curves.json to the table and the plot in docs/benchmarks.md and the figures in docs/sizing.md."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from plot import Line, lines
from report import replace_block

if TYPE_CHECKING:
    from pathlib import Path

AXES = {
    "features": "features of a record",
    "models": "models",
    "partitions": "partitions",
    "max_batch_records": "worker.max_batch_records",
    "window_records": "records in a window, 100 models",
}
KB, MB = 1_000, 1_000_000
LONG_WINDOW = 10_000
HALF = 0.5
"""The load at which latencies are held against their bars."""


class Bar(NamedTuple):
    """What a figure is held against."""

    what: str
    measured: float
    most: float
    unit: str

    @property
    def row(self) -> str:
        """A row of the table."""
        verdict = "held" if self.measured <= self.most else "**not held**"
        return f"| {self.what} | {self.measured:,.3g}{self.unit} | {self.most:,g}{self.unit} | {verdict} |"


def publish_curves(docs: Path) -> None:
    """Write the pages' figures and the plot from docs/curves.json."""
    document = json.loads((docs / "curves.json").read_text())
    for page, blocks in BLOCKS.items():
        for name, text in blocks.items():
            replace_block(docs / page, name, text(document))
    (docs / "curves.svg").write_text(plotted(document))


def points(document: dict[str, Any], curve: str) -> list[dict[str, Any]]:
    """A curve's points in their order."""
    by_setting = {tuple(each["setting"].items()): each for each in document["points"]}
    return [by_setting[tuple(setting.items())] for setting in document["curves"][curve]]


def cost_us(document: dict[str, Any], curve: str, value: int) -> float:
    """CPU of a record at one point of a curve, microseconds."""
    return float(next(each["cpu_us"] for each in points(document, curve) if each["setting"][curve] == value))


def verdict_us(document: dict[str, Any]) -> float:
    """CPU of one verdict on one model's window, microseconds.

    Two logs differ in the records of a window only. With w records of all models in it, a record pays for models / w
    verdicts.
    """
    few, many = points(document, "window_records")
    models = few["setting"]["models"]
    more = models / few["setting"]["window_records"] - models / many["setting"]["window_records"]
    return float(max(0.0, few["cpu_us"] - many["cpu_us"]) / more)


def latencies(document: dict[str, Any]) -> list[dict[str, float]]:
    """What was measured at each load; what never came is null in JSON and infinite here."""
    return [{name: math.inf if ms is None else ms for name, ms in each.items()} for each in document["latency"]]


def bars(document: dict[str, Any]) -> list[Bar]:
    """What the figures are held against."""
    cells, upkeep, half = (
        document["cells"],
        document["upkeep"],
        next(each for each in latencies(document) if each["load"] == HALF),
    )
    one, fleet = cost_us(document, "models", 1), points(document, "fleet")[0]
    return [
        Bar("CPU of a record, 100 models against one", cost_us(document, "models", 100) / one, 1.6, " x"),
        Bar("the same, 10,000 records of each model in a window", with_long_windows(document), 1.6, " x"),
        Bar("CPU of a record, 100 features against 20", cost_us(document, "features", 100) / one, 4, " x"),
        Bar("alert on a single record, p99 at half load", half["alert_p99_ms"], 1_000, " ms"),
        Bar("verdict after its window has closed, longest at half load", half["window_max_ms"], 1_000, " ms"),
        Bar("memory of a model in a partition beyond the trees", beyond_trees(cells) / KB, 60, " KB"),
        Bar("peak memory of a worker, 100 models on 8 partitions", fleet["peak_mb"], 250, " MB"),
        Bar("CPU for snapshots and metrics, the same", 100 * upkeep_share(upkeep), 10, " %"),
    ]


def with_long_windows(document: dict[str, Any]) -> float:
    """How much more a record costs with 100 models than with one where each model has 10 000 records in a window.

    Logs of 100 models would have to be millions of records long to hold such windows. So verdicts are reckoned: those
    of the logs as they are taken away, one for 10 000 records added.
    """
    verdict = verdict_us(document)
    costs = []
    for models in (100, 1):
        (point,) = (each for each in points(document, "models") if each["setting"]["models"] == models)
        costs.append(point["cpu_us"] - verdict * models / point["setting"]["window_records"] + verdict / LONG_WINDOW)
    return float(costs[0] / costs[1])


def beyond_trees(cells: dict[str, int]) -> int:
    """Bytes of a cell without its half-space trees."""
    return cells["resident_bytes"] - cells["tree_bytes"]


def upkeep_share(upkeep: dict[str, float]) -> float:
    """Share of a core that snapshots and scrapes take."""
    return upkeep["snapshot_share"] + upkeep["scrape_share"]


def table(document: dict[str, Any]) -> str:
    """Render the section of docs/benchmarks.md."""
    setting, work = document["machine"], document["work"]
    machine = f"{setting['processor']}, {setting['cores']} cores; Python {setting['python']}"
    text = [
        f"{machine}; logs of {work['records']:,} records (fewer of 100 features), runs of each point: {work['rounds']}.",
        "",
        "| | | CPU, us/record | records/s | records a batch | peak memory, MB |",
        "|---|---|---|---|---|---|",
    ]
    for curve, meaning in AXES.items():
        text += [
            f"| {meaning} | {each['setting'][curve]:,} | {each['cpu_us']:.1f} | {each['rate']:,} | "
            f"{each['batch_records']:,} | {each['peak_mb']:.0f} |"
            for each in points(document, curve)
        ]
    text += ["", *latency_rows(document), "", "| | measured | bar | |", "|---|---|---|---|"]
    text += [bar.row for bar in bars(document)]
    return "\n".join(text)


def latency_rows(document: dict[str, Any]) -> list[str]:
    """Render the latencies."""
    head = "| share of the highest rate | records/s | alert p50, ms | alert p99, ms | verdict p50, ms | verdict longest, ms |"
    rows = [f"{head} worker's CPU, us/record |", "|---|---|---|---|---|---|---|"]
    rows += [
        f"| {each['load']:.0%} | {each['rate']:,} | {each['alert_p50_ms']:.0f} | {each['alert_p99_ms']:.0f} | "
        f"{each['window_p50_ms']:.0f} | {each['window_max_ms']:.0f} | {each['cpu_us']:.1f} |"
        for each in latencies(document)
    ]
    return rows


def figures(document: dict[str, Any]) -> str:
    """Render the figures that docs/sizing.md reckons with."""
    cells, upkeep, fleet = document["cells"], document["upkeep"], points(document, "fleet")[0]
    rows = [("a record, 20 features, one model", f"{cost_us(document, 'features', 20):.1f} us of CPU")]
    rows += [
        (f"... of {features} features", f"{ratio(document, 'features', features, 20):.2f} times that")
        for features in (5, 100)
    ]
    rows += [
        (f"... with {models} models in a log of 4 partitions", f"{ratio(document, 'models', models, 1):.2f} times that")
        for models in (10, 100, 500)
    ]
    rows += [
        (f"... on {partitions} partitions", f"{ratio(document, 'partitions', partitions, 4):.2f} times that")
        for partitions in (16, 32)
    ]
    rows += [
        ("a verdict on a model's window", f"{verdict_us(document) / 1000:.1f} ms of CPU"),
        ("a snapshot of a partition with 100 models", f"{upkeep['checkpoint_ms']:.0f} ms of CPU"),
        ("a scrape of the metrics with 100 models", f"{upkeep['scrape_ms']:.0f} ms of CPU"),
        ("a worker with one model", f"{points(document, 'models')[0]['peak_mb']:.0f} MB at most"),
        ("a worker with 100 models on 8 partitions", f"{fleet['peak_mb']:.0f} MB at most"),
        ("a model version in a partition", f"{cells['resident_bytes'] / KB:.0f} KB of memory"),
        ("... of it half-space trees", f"{cells['tree_bytes'] / KB:.0f} KB"),
        (
            "... its saved state besides",
            f"{cells['saved_bytes'] / KB:.0f} KB in the changelog, up to a quarter more in memory",
        ),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)])


def ratio(document: dict[str, Any], curve: str, value: int, base: int) -> float:
    """How many times as much a record costs at one point of a curve as at another."""
    return cost_us(document, curve, value) / cost_us(document, curve, base)


class Example(NamedTuple):
    """A deployment to size: 20 features, windows of a minute."""

    rate: int
    models: int
    partitions: int


SLOT = 1.25
"""Memory that a saved state takes, per byte of it: its slot has a quarter to spare."""
EXAMPLE = Example(rate=20_000, models=100, partitions=8)
WINDOW_S = 60


def example(document: dict[str, Any]) -> str:
    """Work one deployment out."""
    rate, models, partitions = EXAMPLE
    record_us = float(points(document, "fleet")[0]["cpu_us"])
    upkeep = document["upkeep"]
    verdicts = models / WINDOW_S * verdict_us(document) / 1e6
    records = rate * record_us / 1e6
    cores = records + verdicts + upkeep_share(upkeep)
    workers = max(2, math.ceil(2 * cores))
    base_mb = points(document, "models")[0]["peak_mb"]
    cells, cell = document["cells"], f"{models} x {partitions}"
    cell_bytes = cells["resident_bytes"] + SLOT * cells["saved_bytes"]
    alone_mb = base_mb + models * partitions * cell_bytes / MB
    state_mb = models * partitions * cells["saved_bytes"] / MB
    lines = f"""
{rate:,} records a second, {models} models of 20 features, {partitions} partitions, windows of a minute:

- Records: {rate:,} x {record_us:.1f} us = {records:.2f} cores.
- Verdicts: {models} a minute x {verdict_us(document) / 1000:.1f} ms = {verdicts:.3f} cores.
- Snapshots and metrics: {upkeep_share(upkeep):.3f} cores.
- Together {cores:.2f} cores; twice that, for half load, is {2 * cores:.2f}: **{workers} workers** of one core each.
- Memory, should one worker have to carry all: {base_mb:.0f} MB + {cell} x {cell_bytes / KB:.0f} KB =
  **{alone_mb:.0f} MB**, which is each worker's limit.
- State in the changelog: {cell} x {cells["saved_bytes"] / KB:.0f} KB = {state_mb:.0f} MB, which a worker that starts reads.
"""
    return lines.strip()


def plotted(document: dict[str, Any]) -> str:
    """Draw the curves."""
    drawn = [
        Line(
            meaning,
            [(each["setting"][curve], each["cpu_us"]) for each in points(document, curve)],
            "us of CPU a record",
        )
        for curve, meaning in AXES.items()
    ]
    loads = [(each["rate"], each["alert_p99_ms"]) for each in latencies(document)]
    return lines([*drawn, Line("records/s", loads, "p99 of single-record alerts, ms")])


BLOCKS = {
    "benchmarks.md": {"curves": table},
    "sizing.md": {"figures": figures, "example": example},
}
"""Which block of which page is rendered how."""
