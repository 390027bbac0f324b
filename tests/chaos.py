"""The chaos suite: a log on a real Kafka, faults, and a hash that must not change.

Run it with ``make chaos`` (all faults) or ``make chaos-quick`` (about 3 minutes). Every scenario reads the same log under
a group of its own; its outcome - all final verdicts, the ids of all final alerts, all detector states - must equal that
of an undisturbed run, computed in this process. Two lanes work at the same time, each on brokers of its own, and a third
for faults that mostly wait.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka.errors import KafkaError

from tests import chaos_clocks, chaos_faults, chaos_input, chaos_measures, chaos_size
from tests.chaos_measures import narrow_log
from tests.chaos_stage import SMALL, Fault, Log, Size, Stage, run_kafka, small_log
from tests.fleet import Workers, outcome_on, settings_for, states_saved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from driftline.streams.config.settings import Settings

START, END = "<!-- chaos -->", "<!-- end of chaos -->"
SCENARIOS = (chaos_faults, chaos_size, chaos_input, chaos_measures, chaos_clocks)
FAULTS: dict[str, Fault] = {fault.name: fault for scenarios in SCENARIOS for fault in scenarios.FAULTS}
QUICK = (
    *("calm-quick", "kill-quick", "kill-control", "pause-quick", "broker-quick", "term-quick"),
    *("term-away", "stuck-consumer"),
)


class Run(NamedTuple):
    """A fault to be shown once."""

    fault: Fault
    seed: int


class Row(NamedTuple):
    """One line of the table."""

    run: Run
    held: bool
    found: str
    seconds: float


@dataclass
class Brokers:
    """One cluster, and the logs that stand on it by what made them."""

    directory: Path
    bootstrap: str
    size: Size
    logs: dict[Any, tuple[Settings, Log]] = field(default_factory=dict)

    async def log_of(self, fault: Fault) -> tuple[Settings, Log]:
        """The log that a fault works on, and under which settings it was published; made at the first call."""
        if fault.log not in self.logs:
            settings, _ = settings_for(self.bootstrap, fault.log.__name__, self.directory)
            self.logs[fault.log] = settings, await fault.log(settings, self.size)
        return self.logs[fault.log]

    def keep_only(self, wanted: set[Any]) -> None:
        """Forget the logs that nobody asks for any more: each holds gigabytes of memory."""
        for log in self.logs.keys() - wanted:
            del self.logs[log]


@asynccontextmanager
async def brokers(directory: Path, number: int, size: Size) -> AsyncIterator[Brokers]:
    """A cluster that runs as long as the block."""
    directory.mkdir(parents=True, exist_ok=True)
    home = directory / "kafka"
    bootstrap = await asyncio.to_thread(run_kafka, home, "up", "--port", "0", "--brokers", str(number))
    try:
        yield Brokers(directory, bootstrap, size)
    finally:
        await asyncio.to_thread(run_kafka, home, "down")


async def show(run: Run, on: Brokers) -> Row:
    """Run one scenario and note what came of it."""
    fault, name = run.fault, f"{run.fault.name}-{run.seed}"
    source, log = await on.log_of(fault)
    print(f"{name}: {fault.title} ...", file=sys.stderr, flush=True)
    started = time.monotonic()
    settings, config = settings_for(on.bootstrap, name, on.directory, **log.fleet.plan)
    settings = log.fleet.reading(source, settings, config)
    await log.fleet.create_topics(settings)
    with Workers(config, fault.environment, fault.tampered) as workers:
        stage = Stage(workers, settings, on.directory / "kafka", random.Random(run.seed), *log)
        try:
            notes, problems = await _outcome(stage, fault)
        except (AssertionError, KafkaError, OSError, subprocess.SubprocessError) as error:
            await stage.kafka("start")  # whatever the scenario left behind
            notes, problems = "", [str(error), *await _compared(stage, fault)]
    shown = not problems if fault.must_show is None else any(re.search(fault.must_show, each) for each in problems)
    found = "; ".join(filter(None, [notes, *(problems or ["equal"])]))
    row = Row(run, shown, found, time.monotonic() - started)
    print(f"  {name} {'held' if shown else 'BROKEN'}: {found} ({row.seconds:.0f} s)", file=sys.stderr, flush=True)
    return row


async def _outcome(stage: Stage, fault: Fault) -> tuple[str, list[str]]:
    """Disturb, let the workers finish, compare: what was done, and what is wrong."""
    notes = await fault.run(stage)
    await stage.finish(fault.within_s)
    await states_saved(stage.settings, stage.fleet.log_ends(), within_s=60)
    codes = await asyncio.to_thread(stage.workers.stop)
    if stage.ended:
        notes += f"; {len(stage.ended)} workers ended by themselves ({sorted(set(stage.ended))}) and were replaced"
    return notes, await _compared(stage, fault) + [f"exit codes {codes}"] * any(codes)


async def _compared(stage: Stage, fault: Fault) -> list[str]:
    """What is wrong with what stands on the topics."""
    return await fault.check(stage, await outcome_on(stage.settings))


async def lane(runs: list[Run], directory: Path, size: Size, *, waiting: bool) -> list[Row]:
    """Show one fault after the other: those that mostly wait, or, as long as there are some, the others first."""
    rows = []
    async with brokers(directory, 1, size) as usual:
        while mine := [each for each in runs if each.fault.waits == waiting] or runs * (not waiting):
            run = mine[0]
            runs.remove(run)
            if run.fault.brokers == 1:
                rows.append(await show(run, usual))
            else:
                async with brokers(directory / run.fault.name, run.fault.brokers, size) as own:
                    rows.append(await show(run, own))
            usual.keep_only({each.fault.log for each in runs})
    return rows


def table(rows: list[Row], header: str) -> str:
    """The results as Markdown."""
    lines = [header, "", "| fault | seed | bar | held | found | s |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {fault.title}{' *' * (fault.log in (small_log, narrow_log))} | {seed} | {fault.bar} | {'yes' if held else '**no**'} | {found} | {seconds:.0f} |"
        for (fault, seed), held, found, seconds in rows
    ]
    return "\n".join(lines) + "\n"


def chosen(arguments: argparse.Namespace) -> list[Run]:
    """What to show, in the table's order."""
    quick = arguments.quick and not arguments.only
    names = arguments.only or (QUICK if quick else [name for name in FAULTS if not name.endswith("-quick")])
    return [
        Run(fault, seed)
        for name, fault in FAULTS.items()
        if name in names
        for seed in range(min(fault.seeds, arguments.seeds))
    ]


async def main_async(arguments: argparse.Namespace) -> int:
    """Run the chosen faults; the number of those that did not hold."""
    runs, size = chosen(arguments), Size(arguments.records, arguments.models, arguments.partitions)
    of_lane = [False] * min(arguments.lanes, len(runs)) + [True] * any(run.fault.waits for run in runs)
    with ExitStack() as stack:
        directory = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="driftline-chaos-")))
        left = list(runs)
        async with asyncio.TaskGroup() as group:
            working = [
                group.create_task(lane(left, directory / f"lane-{number}", size, waiting=waiting))
                for number, waiting in enumerate(of_lane)
            ]
    rows = sorted((row for each in working for row in each.result()), key=lambda row: runs.index(row.run))
    header = (
        f"{size.records:,} records, {size.models} models, {size.partitions} partitions, but of rows marked * "
        f"{SMALL.records:,}, {SMALL.models} and {SMALL.partitions}; two faults at a time, and a third that mostly waits; "
        f"Apache Kafka 4.3.0, Python {platform.python_version()}, faust-streaming {version('faust-streaming')}, "
        f"aiokafka {version('aiokafka')}, river {version('river')}, {platform.machine()}, 2 cores."
    )
    text = table(rows, header)
    print(text)
    if arguments.out:
        page = arguments.out.read_text(encoding="utf-8")
        head, rest = page.split(START, 1)
        arguments.out.write_text(f"{head}{START}\n{text}{END}{rest.split(END, 1)[1]}", encoding="utf-8")
    broken = sum(not row.held for row in rows)
    print(f"{len(rows) - broken} passed, {broken} failed")
    return broken


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=64)
    parser.add_argument("--partitions", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=1, help="seeds of a fault, at most")
    parser.add_argument("--lanes", type=int, default=2, help="how many faults are shown at the same time")
    parser.add_argument("--quick", action="store_true", help="a few faults on a smaller log")
    parser.add_argument("--only", action="append", metavar="NAME", choices=FAULTS, help="|".join(FAULTS))
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work there and leave the workers' logs")
    parser.add_argument("--out", type=Path, help="page whose table to replace")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.records, arguments.models, arguments.partitions = SMALL
    if arguments.keep and arguments.keep.exists() and any(arguments.keep.iterdir()):
        parser.error(f"{arguments.keep} is not empty: the brokers in it would go on with the logs that they have")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that brokers and workers are ended first
    sys.exit(min(1, asyncio.run(main_async(arguments))))


if __name__ == "__main__":
    main()
