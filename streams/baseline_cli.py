"""``driftline baseline``: build, publish and show baselines."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from driftline.detectors.baseline import Baseline, NumericSignal
from driftline.detectors.errors import OperatorError
from driftline.streams.cli_options import bootstrap_option, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from driftline.detectors.baseline import Signal

WINDOW_SIZES = (200, 1_000, 10_000)
"""Records of a window for which ``show`` tells what can be seen."""
MOST_LEVELS = 5
"""Levels of a category that ``show`` names."""


@click.group()
def baseline() -> None:
    """Build, publish and show baselines: what a model version's signals looked like in training."""


@baseline.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--model", required=True, metavar="NAME", help="Model that the rows trained.")
@click.option("--version", required=True, metavar="NAME", help="Its version.")
@click.option("--prediction", metavar="COLUMN", help="Column with the model's output; 'prediction' if not given.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Where the baseline goes.")
def build(file: Path, model: str, version: str, prediction: str | None, out: Path) -> None:
    """Build a baseline from a FILE of training rows: CSV, JSON Lines or Parquet.

    Every column is a signal, except model, version, id and timestamp. Include the model's predictions for the same
    rows, best on rows that it was not trained on: predictions on its own training rows look better than life.
    """
    from driftline.detectors.fit import fit  # noqa: PLC0415 - numpy and scipy, half a second
    from driftline.detectors.watch import MAX_NAME, is_name  # noqa: PLC0415 - likewise
    from driftline.streams.files import count_rows, read_columns  # noqa: PLC0415 - likewise

    for option, name in (("--model", model), ("--version", version)):
        if not is_name(name):
            raise OperatorError(f"{option} {name!r}: a name has 1 to {MAX_NAME} printable characters and no '|'")
    click.echo(f"reading {count_rows(file)} rows of {file}", err=True)
    columns = read_columns(file, prediction)
    click.echo(f"profiling {len(columns)} signals", err=True)
    document = fit(model, version, columns).to_json()
    try:
        out.write_bytes(document)
    except OSError as error:
        raise OperatorError(f"--out {out}: {error.strerror}") from error
    click.echo(f"{out}: {len(document)} bytes; look at it with `driftline baseline show {out}`")
    if "prediction" not in columns:
        click.echo("driftline: there is no prediction among the signals; name its column with --prediction", err=True)


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
    from driftline.streams.baseline_publishing import publish_baseline  # noqa: PLC0415 - aiokafka, 0.2 s

    settings = settings_of(context, bootstrap_servers)
    found = read_baseline(file)
    requested_ms = None if effective_from is None else moment_ms(effective_from)
    published = asyncio.run(publish_baseline(settings, found, requested_ms, time.time_ns() // 1_000_000))
    about = f"{found.model} {found.version}, hash {found.hash}"
    said = "published" if published.is_new else "nothing to do: it is published already"
    click.echo(f"{about}: {said}, in force from {in_force_from(published.baseline.effective_from_ms)} on")


@baseline.command()
@click.argument("file", type=click.Path(path_type=Path))
def show(file: Path) -> None:
    """Show the baseline in FILE for people: its signals, and how small a drift it lets a window see."""
    found = read_baseline(file)
    for line in summary(found, file.stat().st_size):
        click.echo(line)


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
        raise OperatorError(f"{path}: {error.strerror}; make one with `driftline baseline build`") from error
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


def summary(found: Baseline, size: int) -> Iterator[str]:
    """Lines of text about a baseline whose file has so many bytes."""
    from driftline.detectors.arming import described  # noqa: PLC0415 - scipy
    from driftline.detectors.marginal import minimum_detectable_effect  # noqa: PLC0415 - scipy
    from driftline.detectors.plan import Plan  # noqa: PLC0415 - likewise

    yield f"{found.model} {found.version}: {found.n} rows, {len(found.signals)} signals, hash {found.hash}"
    yield f"{size} bytes; in force from {in_force_from(found.effective_from_ms)} on"
    yield ""
    width = max(map(len, found.signals), default=0)
    for name, signal in found.signals.items():
        yield f"{name:{width}}  {_described(signal, found.n)}"
    yield ""
    yield from described(found, Plan(), WINDOW_SIZES[1])
    share = (Plan().threshold("marginal") or 0.0) / max(1, len(found.signals))
    effects = (f"{minimum_detectable_effect(n, found.n, share):.2f} sd of {n}" for n in WINDOW_SIZES)
    yield f"a window sees a shift of the mean, with probability 0.8, from: {', '.join(effects)} records"


def _described(signal: Signal, n: int) -> str:
    """One line about a signal."""
    missing = f"{signal.missing / n:.1%} missing" if signal.missing else "never missing"
    if isinstance(signal, NumericSignal):
        about = f"{len(signal.counts)} bins, mean {signal.mean:.6g}, sd {signal.sd:.4g}, {missing}"
        odd = f", {signal.nonfinite} not finite" if signal.nonfinite else ""
        return f"numeric      {about}{odd}, possible from {signal.low:.6g} to {signal.high:.6g}"
    shown = ", ".join(signal.levels[:MOST_LEVELS]) + (", ..." if len(signal.levels) > MOST_LEVELS else "")
    closed = "a new level is an event" if signal.closed else "new levels are counted"
    return f"categorical  {len(signal.levels)} levels ({shown}), {missing}, {closed}"
