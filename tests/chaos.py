"""The chaos suite: a log on a real Kafka, faults, and a hash that must not change.

Run it with ``make chaos`` (all faults) or ``python -m tests.chaos --quick`` (about 3 minutes). Every scenario reads the
same log under a group of its own; its outcome - all final verdicts, the ids of all final alerts, all detector states -
must equal that of an undisturbed run, computed in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from tests.chaos_faults import FAULTS, QUICK, Fault, Stage
from tests.chaos_log import Fleet, build_fleet
from tests.fleet import Outcome, Workers, expected, outcome_on, publish, settings_for, states_saved

ROOT = Path(__file__).parents[1]
START, END = "<!-- chaos -->", "<!-- end of chaos -->"


@dataclass
class Row:
    """One line of the table."""

    fault: str
    bar: str
    seed: int
    held: bool
    found: str
    seconds: float


@dataclass
class Suite:
    """What all scenarios share."""

    directory: Path
    bootstrap: str
    fleet: Fleet
    wanted: Outcome
    rows: list[Row] = field(default_factory=list)

    async def run(self, fault: Fault, seed: int) -> None:
        """Run one scenario and note what came of it."""
        name = f"{fault.name}-{seed}"
        print(f"{name}: {fault.title} ...", file=sys.stderr, flush=True)
        started = time.monotonic()
        settings, config = settings_for(self.bootstrap, name, self.directory, **self.fleet.plan)
        settings, config = self.fleet.shared_input(settings, config)
        await self.fleet.create_topics(settings)
        with Workers(config, fault.environment) as workers:
            stage = Stage(workers, settings, self.directory / "kafka", random.Random(seed), self.wanted)
            try:
                notes = await fault.run(stage)
                replaced = await stage.finish(fault.within_s)
                notes += f"; {replaced} workers replaced after they ended by themselves" * bool(replaced)
                await states_saved(settings, self.fleet.log_ends(), within_s=60)
                codes = workers.stop()
                found = await outcome_on(settings)
                problems = differences(self.wanted, found) + [f"exit codes {codes}"] * any(codes)
            except (TimeoutError, subprocess.TimeoutExpired) as error:
                notes, problems = "", [str(error)]
        held = bool(problems) == fault.must_go_red
        found_text = "; ".join([notes, *problems[:3]] if problems else [notes, "equal"]).strip("; ")
        self.rows.append(Row(fault.title, fault.bar, seed, held, found_text, time.monotonic() - started))
        print(f"  {'held' if held else 'BROKEN'}: {found_text} ({self.rows[-1].seconds:.0f} s)", file=sys.stderr)


def differences(wanted: Outcome, found: Outcome) -> list[str]:
    """What is not equal, in words."""
    problems = []
    for what in ("verdicts", "states"):
        mine, theirs = getattr(wanted, what), getattr(found, what)
        if mine != theirs:
            missing, extra = len(mine.keys() - theirs.keys()), len(theirs.keys() - mine.keys())
            differ = sum(mine[key] != theirs[key] for key in mine.keys() & theirs.keys())
            problems.append(f"{what}: {missing} missing, {extra} too many, {differ} different of {len(mine)}")
    if wanted.alerts != found.alerts:
        missing, extra = len(wanted.alerts - found.alerts), len(found.alerts - wanted.alerts)
        problems.append(f"alerts: {missing} missing, {extra} too many of {len(wanted.alerts)}")
    return problems


def table(rows: list[Row], header: str) -> str:
    """The results as Markdown."""
    lines = [header, "", "| fault | seed | bar | held | found | s |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.fault} | {row.seed} | {row.bar} | {'yes' if row.held else '**no**'} | {row.found} | {row.seconds:.0f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


async def main_async(arguments: argparse.Namespace) -> int:
    """Run the chosen faults; the number of those that did not hold."""
    with ExitStack() as stack:
        directory = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="driftline-chaos-")))
        kafka = [sys.executable, str(ROOT / "scripts" / "kafka")]
        run = ["--dir", str(directory / "kafka")]
        up = subprocess.run([*kafka, "up", *run, "--port", "0"], check=True, stdout=subprocess.PIPE, text=True)
        try:
            suite = await _prepared(arguments, directory, up.stdout.strip())
            for fault in FAULTS.values():
                if not arguments.only and arguments.quick and fault.name not in QUICK:
                    continue
                if arguments.only and fault.name not in arguments.only:
                    continue
                for seed in range(min(fault.seeds, 1 if arguments.quick else arguments.seeds)):
                    await suite.run(fault, seed)
        finally:
            subprocess.run([*kafka, "down", *run], check=True)
    header = (
        f"{arguments.records:,} records, {arguments.models} models, {arguments.partitions} partitions; seeds as told; "
        f"Apache Kafka 4.3.0, Python {platform.python_version()}, faust-streaming {version('faust-streaming')}, "
        f"aiokafka {version('aiokafka')}, river {version('river')}, {platform.machine()}, 2 cores."
    )
    text = table(suite.rows, header)
    print(text)
    if arguments.out:
        page = arguments.out.read_text(encoding="utf-8")
        head, rest = page.split(START, 1)
        arguments.out.write_text(f"{head}{START}\n{text}{END}{rest.split(END, 1)[1]}", encoding="utf-8")
    broken = sum(not row.held for row in suite.rows)
    print(f"{len(suite.rows) - broken} passed, {broken} failed")
    return broken


async def _prepared(arguments: argparse.Namespace, directory: Path, bootstrap: str) -> Suite:
    """Log made, published, and its undisturbed outcome computed."""
    print(f"making {arguments.records:,} records ...", file=sys.stderr, flush=True)
    fleet = build_fleet(arguments.records, arguments.models, arguments.partitions)
    settings, _ = settings_for(bootstrap, "chaos", directory, **fleet.plan)
    await fleet.create_topics(settings)
    await publish(settings, fleet.baselines, fleet.log(settings.topics.predictions))
    print("undisturbed run ...", file=sys.stderr, flush=True)
    wanted = expected(fleet.watch, fleet.log(settings.topics.predictions))
    print(f"wanted: {wanted.digest()[:16]}, {len(wanted.verdicts)} verdicts", file=sys.stderr, flush=True)
    return Suite(directory, bootstrap, fleet, wanted)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=64)
    parser.add_argument("--partitions", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3, help="seeds of a fault, at most")
    parser.add_argument("--quick", action="store_true", help="a few faults on a smaller log")
    parser.add_argument("--only", action="append", metavar="NAME", help="|".join(FAULTS))
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work there and leave the workers' logs")
    parser.add_argument("--out", type=Path, help="page whose table to replace")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.records, arguments.models, arguments.partitions = 200_000, 16, 8
    sys.exit(min(1, asyncio.run(main_async(arguments))))


if __name__ == "__main__":
    main()
