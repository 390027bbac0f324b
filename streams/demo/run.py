"""The demo: an embedded broker, a real worker process, and a stream in which things go wrong on purpose."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import orjson

from driftline.detectors.baselines.fit import fit
from driftline.detectors.documents.alerts import Alert
from driftline.detectors.errors import DriftlineError
from driftline.detectors.verdicts.decide import Verdict
from driftline.streams.client.baseline_publishing import publish_baseline
from driftline.streams.config.settings import load_settings
from driftline.streams.demo.embedded import embedded_broker
from driftline.streams.demo.report import false_alarms, outcomes, phase_of, table
from driftline.streams.demo.stream import (
    EPOCH_MS,
    MODEL,
    VERSION,
    WINDOW_MS,
    Phase,
    documents,
    schedule,
    training_columns,
)
from driftline.streams.kafka.outbox import Outbox
from driftline.streams.kafka.reader import TopicReader
from driftline.streams.kafka.topics import topic_table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from driftline.streams.config.settings import Settings

PARTITIONS = 2
GRACE_S = 60.0
"""How long the last verdict may take after the last record was written."""
STOP_TIMEOUT_S = 15.0


class DemoFailed(DriftlineError):  # noqa: N818 - it is what the demo says
    """The run itself went wrong; that a fault was not found is no failure."""


class Scale(NamedTuple):
    """How much of the stream is shown, and how fast.

    Parameters
    ----------
    training_rows, window_rows
        Rows of the baseline, records of a window.
    clean, faulty, pause
        Windows of the clean half, of each fault, and of the pause after it.
    pace_s
        Seconds from one window to the next.
    """

    training_rows: int = 10_000
    window_rows: int = 1_000
    clean: int = 12
    faulty: int = 3
    pause: int = 3
    pace_s: float = 0.9


class Seen(NamedTuple):
    """What the worker had to say."""

    verdicts: list[Verdict]
    alerts: list[Alert]


def run_demo(scale: Scale, say: Callable[[str], None]) -> None:
    """Run the demo from beginning to end.

    Parameters
    ----------
    scale
        How much.
    say
        Takes the lines for people.

    Raises
    ------
    DemoFailed
        Where the worker ended, a window was not judged or lacks records, or the clean half had an alert.
    OperatorError
        Where the embedded broker can't run.
    """
    phases = schedule(scale.clean, scale.faulty, scale.pause)
    say(f"training: a credit model's baseline from {scale.training_rows} rows")
    baseline = fit(MODEL, VERSION, training_columns(scale.training_rows))
    topics = {spec.name: spec.partitions for spec in topic_table(load_settings(None, ENVIRONMENT), PARTITIONS)}
    with embedded_broker(topics) as broker:
        environment = ENVIRONMENT | {"DRIFTLINE_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers}
        settings = load_settings(None, environment)
        say(f"broker: {broker.bootstrap_servers}, embedded; a worker of its own process is starting")
        asyncio.run(publish_baseline(settings, baseline, None, EPOCH_MS))
        seen = asyncio.run(_stream(settings, environment, phases, scale, say))
    for line in _conclusion(phases, seen, scale):
        say(line)
    _check(phases, seen, scale)


async def _stream(
    settings: Settings, environment: dict[str, str], phases: Sequence[Phase], scale: Scale, say: Callable[[str], None]
) -> Seen:
    """Publish the stream and watch, with a worker between the two."""
    async with _worker(environment) as ended:
        verdicts: list[Verdict] = []
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(_tell_alerts(settings, phases, say))
            writing = tasks.create_task(_publish(settings, phases, scale, say))
            judging = tasks.create_task(_tell_verdicts(settings, phases[-1].stop, verdicts, say))
            limit_s = phases[-1].stop * scale.pace_s + GRACE_S
            await asyncio.wait({judging, ended}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            for task in (telling, writing, judging):
                task.cancel()
        if ended.done():
            raise DemoFailed(f"the worker ended by itself; it said:\n{ended.result()}")
        async with TopicReader(settings.kafka, settings.topics.alerts, Alert, "beginning", "end") as found:
            return Seen(verdicts, [alert async for alert in found])


@asynccontextmanager
async def _worker(environment: dict[str, str]) -> AsyncIterator[asyncio.Task[str]]:
    """A worker process; the task ends when it ends before its time, with the last that it said."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}
    with tempfile.TemporaryFile("w+") as said:
        command = (sys.executable, "-m", "driftline.streams.cli.main", "worker")
        process = await asyncio.create_subprocess_exec(
            *command, env=inherited | environment, stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said
        )

        async def last_words() -> str:
            await process.wait()
            said.seek(0)
            return said.read()[-2000:]

        ended = asyncio.create_task(last_words())
        try:
            yield ended
        finally:
            if process.returncode is None:
                process.terminate()
            await asyncio.wait({ended}, timeout=STOP_TIMEOUT_S)
            if process.returncode is None:
                process.kill()
                await ended


async def _publish(settings: Settings, phases: Sequence[Phase], scale: Scale, say: Callable[[str], None]) -> None:
    """Write the stream, a window at a time; one more window lets the watermark pass the last one."""
    end = phases[-1].stop
    starts = {phase.start: phase for phase in phases}
    async with Outbox(settings.kafka, settings.topics.predictions) as outbox:
        for index, window in enumerate(documents([*phases, Phase(end, end + 1, None)], scale.window_rows)):
            if (phase := starts.get(index)) is not None:
                say(f"-- windows {phase.start + 1}-{phase.stop}: {phase.fault.name if phase.fault else 'clean'}")
            for document in window:
                await outbox.send(orjson.dumps(document), document["id"].encode())
            await outbox.flush()
            await asyncio.sleep(scale.pace_s)


async def _tell_verdicts(settings: Settings, n: int, verdicts: list[Verdict], say: Callable[[str], None]) -> None:
    """Say every final verdict, and keep it, until all n windows have theirs."""
    async with TopicReader(settings.kafka, settings.topics.windows, Verdict, "beginning") as found:
        async for verdict in found:
            if verdict.final:
                verdicts.append(verdict)
                moved = ", ".join(name for name, signal in verdict.signals.items() if signal.drift)
                index = (verdict.window.start_ms - EPOCH_MS) // WINDOW_MS
                say(f"window {index + 1:2}: {verdict.n} records, {verdict.status} {moved}".rstrip())
            if len(verdicts) == n:
                return


async def _tell_alerts(settings: Settings, phases: Sequence[Phase], say: Callable[[str], None]) -> None:
    """Say the first alert of every kind in a phase; the others would scroll it away."""
    told = set()
    async with TopicReader(settings.kafka, settings.topics.alerts, Alert, "beginning") as found:
        async for alert in found:
            phase = phase_of(phases, alert.window.start_ms)
            about = (phase, alert.state, alert.kind, alert.detector, alert.signal)
            if about not in told:
                told.add(about)
                say(f"   {alert.severity if alert.state != 'resolved' else alert.state}: {alert.summary}")


def _conclusion(phases: Sequence[Phase], seen: Seen, scale: Scale) -> list[str]:
    alarms = false_alarms(phases, seen.alerts)
    judged = sum(verdict.n for verdict in seen.verdicts)
    return [
        "",
        f"{len(seen.verdicts)} windows judged, {judged} records in them",
        f"clean half: {scale.clean} windows, {len(alarms) or 'no'} alert{'s' if len(alarms) > 1 else ''}",
        *(f"   {each.alert.summary}" for each in alarms),
        "",
        *table(outcomes(phases, seen.alerts)),
    ]


def _check(phases: Sequence[Phase], seen: Seen, scale: Scale) -> None:
    """Refuse to call a run good that was not."""
    windows = phases[-1].stop
    if len(seen.verdicts) < windows:
        raise DemoFailed(f"{windows - len(seen.verdicts)} of {windows} windows got no verdict")
    short = [verdict.window.start_ms for verdict in seen.verdicts if verdict.n != scale.window_rows]
    if short:
        raise DemoFailed(f"windows that start at {short} ms hold another number of records than was published")
    if alarms := false_alarms(phases, seen.alerts):
        raise DemoFailed(f"the clean half had {len(alarms)} alerts")


ENVIRONMENT = {
    "DRIFTLINE_WORKER__APP_ID": "driftline-demo",
    "DRIFTLINE_WORKER__METRICS_PORT": "0",
    "DRIFTLINE_PLAN__WINDOW_MS": str(WINDOW_MS),
    "DRIFTLINE_PLAN__LATENESS_MS": "1000",
}
"""The demo's configuration, the broker's address apart."""
