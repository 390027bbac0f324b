"""``driftline baseline``: build, publish and show baselines."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from driftline.detectors.documents.baseline import PREDICTION, Baseline, NumericSignal
from driftline.detectors.errors import BUILD_BASELINE, OperatorError
from driftline.detectors.names import NAME_RULE, is_name
from driftline.streams.cli.options import bootstrap_option, settings_of
from driftline.streams.files.options import reading_of, reading_options
from driftline.streams.terminal import printable, say

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from driftline.detectors.documents.baseline import Signal
    from driftline.streams.files.options import Reading
    from driftline.streams.files.training_columns import Read

WINDOW_SIZES = (200, 1_000, 10_000)
"""Records of a window for which ``show`` tells what can be seen."""
MOST_LEVELS = 5
"""Levels of a category that ``show`` names."""


@click.group()
def baseline() -> None:
    """Build, publish and show baselines: what a model version's signals looked like in training."""


@baseline.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--model", metavar="NAME", required=True, help="Model that the rows trained.")
@click.option("--version", metavar="NAME", required=True, help="Its version.")
@reading_options
@click.option(
    "--sensitive",
    multiple=True,
    metavar="NAME,...",
    help="Columns whose values nothing may show, besides those that the plan declares.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Where the baseline goes.")
@click.option(
    "--suggest", is_flag=True, help="Write FILE.schema.toml with what was decided, to be edited; no baseline."
)
@click.pass_context
def build(
    context: click.Context,
    /,
    files: tuple[str, ...],
    model: str,
    version: str,
    out: Path | None,
    suggest: bool,  # noqa: FBT001 - click gives it by name
    **options: Any,
) -> None:
    """Build a baseline from FILEs of training rows: CSV or other delimited text, JSON or Parquet; globs are taken.

    Prints what each column is taken for. Indices, ids, dates, free text and nested values are left out. Include the
    model's predictions for the same rows, best on rows that it was not trained on: predictions on its own training
    rows look better than life.
    """
    from driftline.streams.files.options import schema_text  # noqa: PLC0415 - numpy, 0.1 s

    for option, name in (("--model", model), ("--version", version)):
        if not is_name(name):
            raise OperatorError(f"{option} {name!r}: a name has {NAME_RULE}")
    if (out is None) != suggest:
        raise OperatorError("--out FILE makes the baseline, --suggest a file to edit first; give one of them")
    planned = settings_of(context).plan.sensitive(model)
    reading = replace(reading_of(files, model, version, options), planned=planned)
    found = _read(files, reading)
    for line in schema_table(found):
        say(line)
    if out is None:
        beside = Path(f"{files[0]}.schema.toml")
        _write("--suggest", beside, schema_text(reading, found.roles, found.decimal, found.decisions).encode())
        say(f"{beside}: edit it; it is read with {files[0]}, to build a baseline and to publish")
        return
    _make(found, model, version, out)


def _read(files: Sequence[str], reading: Reading) -> Read:
    """Read training rows, with a progress bar on a terminal."""
    from driftline.streams.files.training_columns import read_training  # noqa: PLC0415 - numpy and DuckDB

    def said(name: str | None) -> str:
        return printable(name or "")[:20]

    with click.progressbar(length=1, label=f"reading {files[0]}", file=sys.stderr, item_show_func=said) as progress:

        def step(name: str, done: int, of: int) -> None:
            progress.length = of
            progress.update(done - progress.pos, name)

        return read_training(files, reading, step)


def _make(found: Read, model: str, version: str, out: Path) -> None:
    """Profile the columns and write the baseline."""
    from driftline.detectors.baselines.fit import fit  # noqa: PLC0415 - scipy, half a second

    if not found.columns:
        raise OperatorError("no column is a signal: name some with --numeric or --categorical")
    say(f"profiling {len(found.columns)} signals of {found.n} rows", err=True)
    document = fit(model, version, found.columns, found.sensitive).to_json()
    _write("--out", out, document)
    say(f"{out}: {len(document)} bytes; look at it with `driftline baseline show {out}`")
    if PREDICTION not in found.columns:
        say("driftline: there is no prediction among the signals; name its column with --prediction", err=True)


def _write(option: str, path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise OperatorError(f"{option} {path}: {error.strerror}") from error


def schema_table(found: Read) -> Iterator[str]:
    """Lines that say what each column is taken for, with what is missing and why."""
    rows = [("column", "taken for", "missing", "distinct", "why")]
    for name, decision in found.decisions.items():
        kind = decision.kind if decision.profile else f"{decision.kind}, left out"
        rows.append((printable(name), kind, *found.counts(name), printable(decision.reason)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for note in found.notes:
        yield printable(note)
    for row in rows:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


@baseline.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--effective-from", metavar="TIME", help="ISO 8601, or milliseconds since the epoch.")
@bootstrap_option
@click.pass_context
def publish(context: click.Context, file: Path, effective_from: str | None, bootstrap_servers: str | None) -> None:
    """Publish the baseline in FILE. Workers pick it up without a restart.

    A model version's first baseline is in force from the beginning of time, so that an old log can be read; a later
    one from the next window on. --effective-from says otherwise.
    """
    from driftline.streams.client.baseline_publishing import publish_baseline  # noqa: PLC0415 - aiokafka, 0.2 s

    settings = settings_of(context, bootstrap_servers)
    found = read_baseline(file)
    requested_ms = None if effective_from is None else moment_ms(effective_from)
    published = asyncio.run(publish_baseline(settings, found, requested_ms, time.time_ns() // 1_000_000))
    about = f"{found.model} {found.version}, hash {found.hash}"
    said = "published" if published.is_new else "nothing to do: it is published already"
    say(f"{about}: {said}, in force from {in_force_from(published.baseline.effective_from_ms)} on")


@baseline.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_context
def show(context: click.Context, file: Path) -> None:
    """Show the baseline in FILE for people: its signals, and how small a drift it lets a window see."""
    found = read_baseline(file)
    planned = settings_of(context).plan.sensitive(found.model)
    for line in summary(found, file.stat().st_size, planned):
        say(line)


def read_baseline(path: Path) -> Baseline:
    """Read a baseline file and check it whole.

    Raises
    ------
    OperatorError
        Naming the file and what is wrong with it.
    """
    try:
        return Baseline.from_json(path.read_bytes())
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}; make one with {BUILD_BASELINE}") from error
    except OperatorError as error:
        raise type(error)(f"{path}: {error}") from error


def moment_ms(text: str) -> int:
    """Read a moment: ISO 8601, in UTC unless it says otherwise, or milliseconds since the epoch.

    Raises
    ------
    OperatorError
        For anything else.

    Examples
    --------
    >>> moment_ms("1970-01-01T00:01Z"), moment_ms("1970-01-02"), moment_ms("60000")
    (60000, 86400000, 60000)
    """
    if text.isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise OperatorError(
            f"--effective-from {text}: neither ISO 8601, as 2025-01-31T00:00Z, nor milliseconds since the epoch"
        ) from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def in_force_from(time_ms: int) -> str:
    """When a baseline begins to be in force, for people.

    Examples
    --------
    >>> in_force_from(0), in_force_from(60_000)
    ('the beginning of time', '1970-01-01T00:01:00Z')
    """
    if time_ms == 0:
        return "the beginning of time"
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def summary(found: Baseline, size: int, sensitive: Collection[str] = ()) -> Iterator[str]:
    """Lines of text about a baseline whose file has so many bytes, and of which the plan declares signals sensitive."""
    from driftline.detectors.baselines.arming import described  # noqa: PLC0415 - scipy
    from driftline.detectors.plan import Plan  # noqa: PLC0415 - likewise
    from driftline.detectors.statistics.marginal import minimum_detectable_effect  # noqa: PLC0415 - scipy

    yield f"{found.model} {found.version}: {found.n} rows, {len(found.signals)} signals, hash {found.hash}"
    yield f"{size} bytes; in force from {in_force_from(found.effective_from_ms)} on"
    yield ""
    width = max(map(len, found.signals), default=0)
    for name, signal in found.signals.items():
        yield f"{name:{width}}  {_described(signal, found.n, is_sensitive=signal.sensitive or name in sensitive)}"
    yield ""
    yield from described(found, Plan(), WINDOW_SIZES[1])
    share = (Plan().threshold("marginal") or 0.0) / max(1, len(found.signals))
    effects = (f"{minimum_detectable_effect(n, found.n, share):.2f} sd of {n}" for n in WINDOW_SIZES)
    yield f"a window sees a shift of the mean, with probability 0.8, from: {', '.join(effects)} records"


def _described(signal: Signal, n: int, *, is_sensitive: bool) -> str:
    """One line about a signal."""
    missing = f"{signal.missing / n:.1%} missing" if signal.missing else "never missing"
    if isinstance(signal, NumericSignal):
        if is_sensitive:
            return f"numeric      {len(signal.counts)} bins, {missing}, sensitive"
        about = f"{len(signal.counts)} bins, mean {signal.mean:.6g}, sd {signal.sd:.4g}, {missing}"
        odd = f", {signal.nonfinite} not finite" if signal.nonfinite else ""
        return f"numeric      {about}{odd}, possible from {signal.low:.6g} to {signal.high:.6g}"
    ranked = [level for _, level in sorted(zip(signal.counts, signal.levels, strict=True), key=lambda each: -each[0])]
    shown = ", ".join(ranked[:MOST_LEVELS]) + (", ..." if len(ranked) > MOST_LEVELS or signal.further else "")
    if is_sensitive:
        shown = "sensitive"
    closed = "a new level is an event" if signal.closed else "new levels are counted"
    return f"categorical  {len(signal.levels)} levels ({shown}), {missing}, {closed}"
