"""From measurements to docs/benchmarks.json, the table in docs/benchmarks.md and the plot."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from plot import bars

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from generator import Work
    from meter import Measured

LIBRARIES = ("driftline", "aiokafka", "faust-streaming", "msgspec", "numpy", "orjson", "prometheus-client", "river")
MEANINGS = {
    "naive": "plain Faust agent, one event at a time",
    "floor": "aiokafka and the decoder only",
    "limit": "the vectorised core on aiokafka, no worker around it",
    "driftline": "one worker as shipped",
    "two workers": "two workers as shipped, broker on the same two cores",
    "memory": "the worker's stage 1 from memory, no Kafka",
    "quix": "the naive arithmetic in Quix Streams",
    "faststream": "the naive arithmetic in FastStream",
    "bytewax": "the naive arithmetic in Bytewax",
    "evidently": "windows as tables, a drift report of Evidently on each",
    "whylogs": "windows as tables, profiled and compared by whylogs",
}


def publish_report(docs: Path, work: Work, record_bytes: float, found: Mapping[str, Sequence[Measured]]) -> None:
    """Write all of it.

    Parameters
    ----------
    docs
        The folder.
    work, record_bytes
        What was measured: the log, and the mean size of a record.
    found
        Per peer, one measurement a round.
    """
    setting = machine()
    document = {
        "machine": setting,
        "work": asdict(work) | {"record_bytes": round(record_bytes)},
        "rounds": {peer: [asdict(one) for one in measured] for peer, measured in found.items()},
        "ratios": ratios(found),
    }
    docs.mkdir(exist_ok=True)
    (docs / "benchmarks.json").write_text(json.dumps(document, indent=1) + "\n")
    replace_block(docs / "benchmarks.md", "table", table(setting, work, record_bytes, found))
    (docs / "benchmarks.svg").write_text(bars(found))


def machine() -> dict[str, str | int]:
    """What the figures depend on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": os.cpu_count() or 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def ratios(found: Mapping[str, Sequence[Measured]]) -> dict[str, dict[str, float]]:
    """Median rates and CPU costs, compared: how many times faster the first is than the second, and how much cheaper."""
    return {
        f"{first} / {second}": {
            "rate": round(middle_rate(found[first]) / middle_rate(found[second]), 3),
            "cpu": round(middle_cpu(found[second]) / middle_cpu(found[first]), 3),
        }
        for first, second in COMPARED
        if first in found and second in found
    }


def middle_rate(measured: Sequence[Measured]) -> float:
    """Median records per second."""
    return median(one.rate for one in measured)


def middle_cpu(measured: Sequence[Measured]) -> float:
    """Median microseconds of CPU per record."""
    return median(one.cpu_us for one in measured)


def table(
    setting: Mapping[str, str | int], work: Work, record_bytes: float, found: Mapping[str, Sequence[Measured]]
) -> str:
    """Render the Markdown."""
    rounds = max(map(len, found.values()))
    libraries = ", ".join(f"{name} {setting[name]}" for name in LIBRARIES)
    columns = f"{work.numeric} numeric and {work.categorical} categorical features"
    lines = [
        f"{setting['processor']}, {setting['cores']} cores; Linux {setting['kernel']}; Python {setting['python']}; {libraries}.",
        f"{work.records:,} records of {record_bytes:.0f} bytes, {columns}, one model; median of {rounds} rounds, slowest to",
        "fastest in brackets.",
        "",
        "| | records/s | CPU, us/record | peak memory, MB |",
        "|---|---|---|---|",
    ]
    for peer, measured in found.items():
        rates = sorted(one.rate for one in measured)
        lines.append(
            f"| **{peer}**: {MEANINGS[peer]} | {middle_rate(measured):,.0f} ({rates[0]:,.0f} to {rates[-1]:,.0f}) "
            f"| {middle_cpu(measured):.1f} | {median(one.peak_mb for one in measured):.0f} |"
        )
    lines += ["", "| ratio of the medians | by records/s | by CPU per record |", "|---|---|---|"]
    lines += [f"| {pair} | {both['rate']:.2f} | {both['cpu']:.2f} |" for pair, both in ratios(found).items()]
    return "\n".join(lines)


def replace_block(page: Path, name: str, text: str) -> None:
    """Replace what stands between a page's two markers of a name; RuntimeError where it has none."""
    start, stop = f"<!-- {name}: written by benchmarks -->\n", f"\n<!-- end of {name} -->"
    head, found, rest = page.read_text().partition(start)
    old, end, tail = rest.partition(stop)
    if not (found and end):
        raise RuntimeError(f"{page}: the markers of block {name!r} are missing; {len(old)} characters were looked at")
    page.write_text(f"{head}{start}{text}{stop}{tail}")


COMPARED = (
    ("driftline", "naive"),
    ("driftline", "quix"),
    ("driftline", "faststream"),
    ("driftline", "bytewax"),
    ("driftline", "evidently"),
    ("driftline", "whylogs"),
    ("driftline", "limit"),
    ("memory", "naive"),
    ("two workers", "driftline"),
    ("limit", "floor"),
)
