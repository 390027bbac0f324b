"""A scorecard: how often driftline speaks where nothing drifts, and how surely where something does.

``make scorecard``, or ``python -m tests.scorecard --m 1000 --n 200 --baselines 5`` for a part of it. Every model has
twenty signals of the kinds that real tables are made of: many levels, zeros with a tail, ratings, flags, heavy tails,
few nulls, counts, percentages. Rows of baseline and windows come from one distribution and go through both stages with
the shipped plan. Per cell, the share of windows that drift and of windows with any message are held against their bars
by their 95 % Clopper-Pearson interval. The messages are told by kind and detector.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import betaincinv

from driftline.detectors.baselines.fit import fit
from driftline.detectors.documents.predictions import Prediction
from driftline.detectors.plan import Plan
from driftline.detectors.windows.profiling import PartitionState
from tests.logs import MINUTE_MS, START_MS, Profile, batch_of, final_verdicts, judge, watching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from driftline.detectors.documents.baseline import Baseline

DRIFT_BAR, MESSAGE_BAR = 1.5, 3.0
"""Most windows of a hundred without drift that may be said to drift, and that may bring any message."""
M, N = (500, 1000, 10_000), (200, 1000)
POWER_M, POWER_N = 10_000, 1000

Rng = np.random.Generator
Table = dict[str, list[Any]]


# --- twenty signals ------------------------------------------------------------------------------------------------


def _with_nulls(values: Sequence[Any], rng: Rng, share: float) -> list[Any]:
    return [None if is_gone else value for value, is_gone in zip(values, rng.random(len(values)) < share, strict=True)]


def _zero_inflated(rng: Rng, n: int) -> list[float]:
    found = np.where(rng.random(n) < 0.8, 0.0, rng.uniform(1, 40, n).round(2))
    found[rng.random(n) < 1e-4] = 1e6
    return found.tolist()  # type: ignore[no-any-return]


def levels(k: int, exponent: float) -> Callable[[Rng, int], list[str]]:
    """Sampler of k levels whose shares fall as a power of their rank."""
    weights = np.arange(1.0, k + 1) ** -exponent
    shares = weights / weights.sum()
    names = np.array([f"level-{each:05d}" for each in np.random.default_rng(k).permutation(k)])
    return lambda rng, n: names[rng.choice(k, n, p=shares)].tolist()


SIGNALS: dict[str, Callable[[Rng, int], list[Any]]] = {
    "normal": lambda rng, n: rng.normal(size=n).tolist(),
    "income": lambda rng, n: rng.lognormal(10, 1, n).round(2).tolist(),
    "cauchy": lambda rng, n: rng.standard_cauchy(n).tolist(),
    "t3": lambda rng, n: rng.standard_t(3, n).tolist(),
    "duration": lambda rng, n: rng.exponential(30, n).round(1).tolist(),
    "zero_inflated": _zero_inflated,
    "rating": lambda rng, n: rng.integers(0, 10, n).tolist(),
    "flag": lambda rng, n: (rng.random(n) < 0.3).astype(int).tolist(),
    "rare_flag": lambda rng, n: (rng.random(n) < 0.01).astype(int).tolist(),
    "few_nulls": lambda rng, n: _with_nulls(rng.normal(100, 15, n).tolist(), rng, 3e-4),
    "many_nulls": lambda rng, n: _with_nulls(rng.gamma(2, 10, n).tolist(), rng, 0.2),
    "children": lambda rng, n: rng.poisson(0.7, n).tolist(),
    "percentage": lambda rng, n: (100 * rng.beta(2, 5, n)).round(1).tolist(),
    "age": lambda rng, n: rng.normal(45, 12, n).clip(18, 95).round().tolist(),
    "shop": levels(1000, 0.0),
    "postcode": levels(150, 0.0),
    "route": levels(101, 0.0),
    "user": levels(5000, 1.0),
    "product": levels(20, 1.0),
    "prediction": lambda rng, n: rng.beta(2, 5, n).round(4).tolist(),
}


def table(rng: Rng, n: int) -> Table:
    """Rows without drift, as columns."""
    return {name: sample(rng, n) for name, sample in SIGNALS.items()}


def _moved_mean(rng: Rng, rows: Table) -> str:
    rows["normal"] = rng.normal(0.25, 1, len(rows["normal"])).tolist()
    return "normal"


def _moved_variance(rng: Rng, rows: Table) -> str:
    rows["normal"] = rng.normal(0, 1.5**0.5, len(rows["normal"])).tolist()
    return "normal"


def _moved_shares(rng: Rng, rows: Table) -> str:
    """Move a twentieth of all rows, by name from the most frequent level to a middling one."""
    most, middling = (f"level-{np.random.default_rng(20).permutation(20)[place]:05d}" for place in (0, 10))
    chance = 0.05 * sum(1 / rank for rank in range(1, 21))
    draws = rng.random(len(rows["product"])).tolist()
    rows["product"] = [
        middling if level == most and u < chance else level for level, u in zip(rows["product"], draws, strict=True)
    ]
    return "product"


DRIFTS: dict[str, tuple[Callable[[Rng, Table], str], float]] = {
    "mean by .25 standard deviations": (_moved_mean, 0.98),
    "variance times 1.5": (_moved_variance, 0.95),
    "total variation .05 of 20 levels": (_moved_shares, 0.85),
}
"""What moves a signal and names it, and the least share of first windows that must say so."""


# --- both stages ---------------------------------------------------------------------------------------------------


def predictions(rows: Table) -> Iterator[Prediction]:
    """Rows as records of model m."""
    features = [name for name in rows if name != "prediction"]
    for *values, output in zip(*(rows[name] for name in features), rows["prediction"], strict=True):
        yield Prediction(model="m", version="1", features=dict(zip(features, values, strict=True)), prediction=output)


class Window(NamedTuple):
    """What was said of one window."""

    drifting: frozenset[str]
    is_drift: bool
    messages: Counter[tuple[str, str, str]]


def said_of(baseline: Baseline, windows: Iterator[Table]) -> list[Window]:
    """Run rows of a minute each through both stages."""
    watch, found, offset, minute = watching(Plan(), baseline), Profile(PartitionState(0, 1)), 0, 0
    records: list[Prediction] = []
    for minute, rows in enumerate(windows, start=1):
        records = list(predictions(rows))
        moments = START_MS + (minute - 1) * MINUTE_MS + np.arange(len(records)) * MINUTE_MS // len(records)
        found.step(batch_of(records, moments.tolist(), offset), watch)
        offset += len(records)
    for late in (0, watch.plan.window_ms):  # two more records close the last window
        found.step(batch_of(records[-1:], START_MS + minute * MINUTE_MS + late + watch.plan.lateness_ms, offset), watch)
        offset += 1
    judged = judge(found.items, watch)[1]
    messages: dict[int, Counter[tuple[str, str, str]]] = {}
    for alert in (*judged.alerts, *found.events):
        if alert.state != "resolved":
            told = messages.setdefault(alert.window.start_ms, Counter())
            told[alert.kind, alert.detector, alert.signal] += 1
    return [
        Window(
            frozenset(name for name, signal in verdict.signals.items() if signal.drift),
            bool(verdict.drift),
            messages.get(start_ms, Counter()),
        )
        for (_, _, start_ms), verdict in sorted(final_verdicts(judged).items())
        if start_ms < START_MS + minute * MINUTE_MS
    ]


# --- cells ---------------------------------------------------------------------------------------------------------


@dataclass
class Cell:
    """Windows of n rows against baselines of m rows."""

    m: int
    n: int
    windows: int = 0
    drifts: int = 0
    speaking: int = 0
    messages: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def add(self, found: Sequence[Window]) -> None:
        """Count windows."""
        self.windows += len(found)
        self.drifts += sum(each.is_drift for each in found)
        self.speaking += sum(bool(each.messages) for each in found)
        for each in found:
            self.messages += each.messages


def interval(hits: int, runs: int) -> tuple[float, float]:
    """95 % interval of a rate by Clopper and Pearson.

    Examples
    --------
    No hit in a hundred: 1 - .025 ** .01.

    >>> interval(0, 100)
    (0.0, 0.036217)
    """
    low = float(betaincinv(hits, runs - hits + 1, 0.025)) if hits else 0.0
    high = float(betaincinv(hits + 1, runs - hits, 0.975)) if hits < runs else 1.0
    return low, high


def judged(hits: int, runs: int, bar: float) -> str:
    """Whether a rate is shown to lie below a bar (per hundred), shown to lie above it, or neither."""
    low, high = interval(hits, runs)
    return "holds" if high * 100 <= bar else "FAILS" if low * 100 > bar else "open"


def quiet(seed: int, m: int, n: int, windows: int) -> list[Window]:
    """What is said of windows without drift against one baseline."""
    rng = np.random.default_rng((seed, m, n))
    baseline = fit("m", "1", table(rng, m))
    return said_of(baseline, (table(rng, n) for _ in range(windows)))


def found_drifts(seed: int, windows: int) -> dict[str, int]:
    """Per kind of drift, in how many first windows of it the signal that moved is named."""
    rng = np.random.default_rng((seed, 99))
    baseline = fit("m", "1", table(rng, POWER_M))
    found = {}
    for name, (move, _) in DRIFTS.items():
        moved = [table(rng, POWER_N) for _ in range(windows)]
        signals = [move(rng, rows) for rows in moved]
        said = said_of(baseline, iter(moved))
        found[name] = sum(signal in each.drifting for signal, each in zip(signals, said, strict=True))
    return found


# --- the page ------------------------------------------------------------------------------------------------------


def rate(hits: int, runs: int) -> str:
    """A rate per hundred with its interval."""
    low, high = (100 * each for each in interval(hits, runs))
    return f"{100 * hits / runs:.2f} ({low:.2f} to {high:.2f})"


def page(cells: Sequence[Cell], powers: dict[str, int], runs: int) -> str:
    """The scorecard as Markdown."""
    total: Counter[tuple[str, str, str]] = sum((cell.messages for cell in cells), Counter())
    lines = [
        "# Scorecard",
        "",
        "Written by `make scorecard` (`tests/scorecard.py`), seeded. No drift, twenty signals of the kinds that real tables",
        "have, the shipped plan; m rows in the baseline, n in each window. Rates are per hundred windows, with their 95 %",
        f"interval (Clopper and Pearson); at most {DRIFT_BAR} may drift and {MESSAGE_BAR:g} bring any message.",
        "",
        "| m | n | windows | drift | | any message | |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {cell.m} | {cell.n} | {cell.windows} | {rate(cell.drifts, cell.windows)} | "
        f"{judged(cell.drifts, cell.windows, DRIFT_BAR)} | {rate(cell.speaking, cell.windows)} | "
        f"{judged(cell.speaking, cell.windows, MESSAGE_BAR)} |"
        for cell in cells
    ]
    if runs:
        lines += [
            "",
            f"First windows of a drift in one signal that name it, m = {POWER_M}, n = {POWER_N}:",
            "",
            "| drift | found, % | at least |",
            "|---|---|---|",
        ]
        lines += [f"| {name} | {rate(hits, runs)} | {100 * DRIFTS[name][1]:g} |" for name, hits in powers.items()]
    lines += [
        "",
        "Messages of the cells without drift:",
        "",
        "| kind | detector | signal | messages |",
        "|---|---|---|---|",
    ]
    lines += [f"| {kind} | {detector} | {signal} | {n} |" for (kind, detector, signal), n in total.most_common()]
    versions = ", ".join(f"{name} {version(name)}" for name in ("driftline", "numpy", "scipy", "river"))
    lines += ["", f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, {versions}."]
    return "\n".join(lines) + "\n"


def failures(cells: Sequence[Cell], powers: dict[str, int], runs: int) -> list[str]:
    """What the intervals show to be beyond its bar."""
    found = []
    for cell in cells:
        for what, hits, bar in (("drift", cell.drifts, DRIFT_BAR), ("any message", cell.speaking, MESSAGE_BAR)):
            if judged(hits, cell.windows, bar) == "FAILS":
                found.append(f"m = {cell.m}, n = {cell.n}: {what} in {rate(hits, cell.windows)} windows of 100")
    return found + [
        f"{name}: found in {rate(hits, runs)} windows of 100"
        for name, hits in powers.items()
        if runs and interval(hits, runs)[1] < DRIFTS[name][1]
    ]


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--m", type=int, nargs="+", default=M, help="rows of the baselines")
    parser.add_argument("--n", type=int, nargs="+", default=N, help="rows of the windows")
    parser.add_argument("--baselines", type=int, default=20)
    parser.add_argument("--windows", type=int, default=100, help="per baseline")
    parser.add_argument("--power", type=int, default=10, help="windows per baseline and kind of drift; 0 for none")
    parser.add_argument("--jobs", type=int, default=None, help="processes; as many as there are processors")
    parser.add_argument("--out", type=Path, help="write the page there; it is printed in any case")
    arguments = parser.parse_args()
    seeds = range(arguments.baselines)
    cells = [Cell(m, n) for m in arguments.m for n in arguments.n]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        work = [(cell, pool.submit(quiet, seed, cell.m, cell.n, arguments.windows)) for cell in cells for seed in seeds]
        drifting = [pool.submit(found_drifts, seed, arguments.power) for seed in seeds] if arguments.power else []
        for cell, job in work:
            cell.add(job.result())
            print(f"m = {cell.m}, n = {cell.n}: {cell.windows} windows", file=sys.stderr, flush=True)
        powers = {name: sum(job.result()[name] for job in drifting) for name in DRIFTS}
    runs = arguments.power * arguments.baselines
    written = page(cells, powers, runs)
    print(written)
    if arguments.out:
        arguments.out.write_text(written, encoding="utf-8")
    found = failures(cells, powers, runs)
    print("; ".join(found) or "nothing is shown to be beyond its bar", file=sys.stderr)
    sys.exit(min(1, len(found)))


if __name__ == "__main__":
    main()
