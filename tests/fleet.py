"""A log on a broker, workers as processes, and what an undisturbed worker must make of it.

``expected`` runs the same two steps in this process over the same records, one partition after another: any number of
workers, any kills and any cut must come to the same final verdicts, alert ids and detector states.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from driftline.detectors.snapshots import profile_snapshot
from driftline.detectors.snapshots.envelope import OWN, unseal
from driftline.streams.config.settings import load_settings
from driftline.streams.engine.chunks import Chunks
from driftline.streams.engine.profiling_stage import ProfilingStage
from driftline.streams.engine.shared import Shared
from driftline.streams.engine.verdict_stage import VerdictStage
from driftline.streams.formats import wire
from driftline.streams.kafka.topics import topic_table
from driftline.streams.observability.metrics import Metrics
from tests.memory_broker import Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence

    from driftline.detectors.documents.baseline import Baseline
    from driftline.detectors.layout.watch import Watch
    from driftline.streams.config.settings import Settings

ROOT = Path(__file__).parents[1]
CUT = 9973
"""Records per batch of the undisturbed run: no divisor of anything, and the fewer batches, the sooner it is done."""


@dataclass
class Outcome:
    """What must be equal: final verdicts by id, ids of final alerts, detector states by partition and model version."""

    verdicts: dict[str, bytes] = field(default_factory=dict)
    alerts: set[str] = field(default_factory=set)
    states: dict[bytes, bytes] = field(default_factory=dict)
    contradictions: int = 0
    """Final verdicts that were told again with another content."""

    def digest(self) -> str:
        """Hash of the sorted whole."""
        parts = [*sorted(self.verdicts.items()), *sorted(self.alerts), *sorted(self.states.items())]
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def differences(wanted: Outcome, found: Outcome) -> list[str]:
    """What of an outcome is not the wanted one, in words."""
    problems = []
    if found.contradictions:
        problems.append(f"{found.contradictions} final verdicts were told again with another content")
    mine_n, theirs_n = (sum(orjson.loads(each)["n"] for each in which.verdicts.values()) for which in (wanted, found))
    if mine_n != theirs_n:
        problems.append(f"the verdicts count {theirs_n:,} records instead of {mine_n:,}")
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


def settings_for(bootstrap: str, name: str, directory: Path, **plan: Any) -> tuple[Settings, Path]:
    """Configuration of one run, with topics and a group of its own."""
    topics = ("predictions", "baselines", "partials", "windows", "alerts", "dead_letters")
    lines = [
        f'kafka.bootstrap_servers = "{bootstrap}"',
        f'worker.app_id = "{name}"',
        "worker.metrics_port = 0",
        "worker.snapshot_interval_s = 0.5",
        "worker.session_timeout_s = 6.0",
        *(f'topics.{topic} = "{name}-{topic}"' for topic in topics),
        *(f"plan.{key} = {orjson.dumps(value).decode()}" for key, value in plan.items()),
    ]
    path = directory / f"{name}.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return load_settings(path, {}), path


def topic_sizes(settings: Settings, partitions: int) -> dict[str, int]:
    """Every topic of a run and its number of partitions."""
    return {spec.name: spec.partitions for spec in topic_table(settings, partitions)}


async def publish(settings: Settings, baselines: Iterable[Baseline], log: Sequence[Sequence[Record]]) -> None:
    """Write baselines, then a log that is given per partition, with the records' own timestamps."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka.bootstrap_servers, linger_ms=20, max_batch_size=2**17, enable_idempotence=True
    )
    await producer.start()
    try:
        sent: list[Awaitable[object]] = []
        for baseline in baselines:
            key = wire.model_key(baseline.model, baseline.version)
            sent.append(await producer.send(settings.topics.baselines, baseline.to_json(), key=key))
        await asyncio.gather(*sent)
        sent = [acknowledged for records in log async for acknowledged in _batched(producer, records)]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def _batched(producer: AIOKafkaProducer, records: Sequence[Record]) -> AsyncIterator[Awaitable[object]]:
    """Send one partition's records in batches made by hand, ten times as fast as one by one; the acknowledgements."""
    batch = producer.create_batch()
    for each in records:
        while batch.append(key=None, value=each.value, timestamp=each.timestamp) is None:
            yield await producer.send_batch(batch, each.topic, partition=each.partition)
            batch = producer.create_batch()
    if batch.record_count():
        yield await producer.send_batch(batch, records[0].topic, partition=records[0].partition)


def expected(watch: Watch, log: Sequence[Sequence[Record]], max_record_bytes: int = 2**20) -> Outcome:
    """The outcome of an undisturbed run over a log that is given per partition."""
    shared = Shared(watch, len(log), 1, max_record_bytes, Metrics("test"))
    outcome, partials = Outcome(), []
    stage = ProfilingStage(shared)
    for partition, records in enumerate(log):
        state, _ = stage.restore(partition, {})
        for start in range(0, len(records), CUT):
            state, outputs = stage.step(state, records[start : start + CUT])
            partials += [each for each in outputs if each.topic == "partials"]
            outcome.alerts |= _ids(each.value for each in outputs if each.topic == "alerts")
        prefix = f"{partition}/".encode()
        cells = [(key, raw) for key, raw in profile_snapshot.dump(state, watch) if key != OWN]
        outcome.states |= {prefix + key: unseal(raw).payload for key, raw in cells}
    judge = VerdictStage(shared)
    fleet, _ = judge.restore(0, {})
    items = [Record("partials", 0, offset, 0, each.value) for offset, each in enumerate(partials)]
    fleet, outputs = judge.step(fleet, items)
    while judge.is_due(fleet):
        fleet, more = judge.step(fleet, [])
        outputs += more
    outcome.alerts |= _ids(each.value for each in outputs if each.topic == "alerts")
    outcome.verdicts, outcome.contradictions = _verdicts(each.value for each in outputs if each.topic == "windows")
    assert not outcome.contradictions
    return outcome


async def outcome_on(settings: Settings) -> Outcome:
    """What stands on the topics of a run now."""
    topics = settings.topics
    verdicts, contradictions = _verdicts([value async for _, value in _read(settings, topics.windows)])
    alerts = _ids([value async for _, value in _read(settings, topics.alerts)])
    outcome = Outcome(verdicts, alerts, contradictions=contradictions)
    changelog = f"{settings.worker.app_id}-profiles-changelog"
    stored = {key: raw async for key, raw in _read(settings, changelog)}
    _, values = Chunks.joined({key: raw for key, raw in stored.items() if raw})
    outcome.states = {key: unseal(raw).payload for key, raw in values.items() if not key.endswith(b"/")}
    return outcome


async def _read(settings: Settings, topic: str) -> AsyncIterator[tuple[bytes, bytes]]:
    """Key and value of every record of a topic."""
    async for record in records_on(settings, topic):
        yield record.key, record.value


async def records_on(settings: Settings, topic: str) -> AsyncIterator[Any]:
    """Every record of a topic, partition by partition, to the end that it has now."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka.bootstrap_servers, isolation_level="read_uncommitted")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, each) for each in range(await _n_partitions(consumer, topic))]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(each) < end for each, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    yield record
    finally:
        await consumer.stop()


async def _n_partitions(consumer: AIOKafkaConsumer, topic: str) -> int:
    await consumer._client.force_metadata_update()
    found = consumer._client.cluster.partitions_for_topic(topic)
    if found is None:
        consumer._client.add_topic(topic)
        await consumer._client.force_metadata_update()
        found = consumer._client.cluster.partitions_for_topic(topic)
    return len(found)


def _verdicts(values: Iterable[bytes]) -> tuple[dict[str, bytes], int]:
    """Final verdicts by id, as they were told first; and how many repetitions were not the same to the byte."""
    found: dict[str, bytes] = {}
    contradictions = 0
    for value in values:
        document = orjson.loads(value)
        if document["final"]:
            contradictions += found.setdefault(document["id"], value) != value
    return found, contradictions


def _ids(values: Iterable[bytes]) -> set[str]:
    return {document["id"] for document in map(orjson.loads, values) if document["final"]}


class Workers:
    """Worker processes of one group. Leaving the ``with`` block kills what is left."""

    def __init__(self, config: Path, environment: Mapping[str, str] | None = None, tampered: str | None = None) -> None:
        self._config, self._environment, self._tampered = config, {**os.environ, **(environment or {})}, tampered
        self._started = 0
        self.running: list[subprocess.Popen[bytes]] = []
        self.logs: dict[int, Path] = {}
        """Log file by process id."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running:
            process.kill()
            process.wait()

    def start(self, tampered: str | None = None, **environment: str) -> subprocess.Popen[bytes]:
        """Start one more, tampered with in the way that ``tests.chaos_worker`` knows by that name."""
        way = tampered or self._tampered
        module = ["tests.chaos_worker", way] if way else ["driftline.streams.cli.main"]
        command = [sys.executable, "-m", *module, "--config", str(self._config), "worker"]
        log = self._config.with_name(f"{self._config.stem}-{self._started}.log")
        self._started += 1
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, env=self._environment | environment, cwd=ROOT, stdout=output, stderr=output
            )
        self.running.append(process)
        self.logs[process.pid] = log
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill -9."""
        process.kill()
        process.wait()
        self.running.remove(process)

    def leave(self, process: subprocess.Popen[bytes], timeout_s: float = 25.0) -> int:
        """SIGTERM, once a worker has come so far as to catch it; its exit code."""
        _terminate(process)
        code = process.wait(timeout_s)
        self.running.remove(process)
        return code

    def stop(self, timeout_s: float = 25.0) -> list[int]:
        """SIGTERM to all; their exit codes."""
        for process in self.running:
            _terminate(process)
        codes = [process.wait(timeout_s) for process in self.running]
        self.running.clear()
        return codes


def _terminate(process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None and not _catches(process.pid, signal.SIGTERM):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)


def logged(config: Path) -> str:
    """What the workers of a configuration have logged, in the order of their starts."""
    paths = sorted(config.parent.glob(f"{config.stem}-*.log"), key=lambda path: int(path.stem.rpartition("-")[2]))
    return "".join(path.read_text(encoding="utf-8") for path in paths)


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal; before that, Python's start is simply ended by it."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    mask = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask.split()[1], 16) >> (number - 1) & 1)


async def states_saved(settings: Settings, log_ends: Mapping[int, int], within_s: float) -> None:
    """Wait until the saved state of every partition reaches the end of its log.

    Raises
    ------
    TimeoutError
        Telling how far they are.
    """
    changelog, behind = f"{settings.worker.app_id}-profiles-changelog", dict(log_ends)
    for _ in range(int(within_s)):
        async for key, raw in _read(settings, changelog):
            partition, _, cell = key.partition(b"/")
            if cell == OWN and unseal(raw).next_offset >= log_ends[int(partition)]:
                behind.pop(int(partition), None)
        if not behind:
            return
        await asyncio.sleep(1)
    message = f"the states of {len(behind)} partitions do not reach their log's end after {within_s} s"
    raise TimeoutError(message)


async def verdicts_complete(settings: Settings, wanted: Outcome, within_s: float) -> None:
    """Wait until every wanted verdict is on the topic.

    Raises
    ------
    TimeoutError
        Telling how many are missing.
    """
    missing = set(wanted.verdicts)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka.bootstrap_servers)
    await consumer.start()
    try:
        topic = settings.topics.windows
        partitions = [TopicPartition(topic, each) for each in range(await _n_partitions(consumer, topic))]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        async with asyncio.timeout(within_s):
            while missing:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    missing -= {
                        document["id"] for record in records if (document := orjson.loads(record.value))["final"]
                    }
    except TimeoutError:
        message = f"{len(missing)} of {len(wanted.verdicts)} verdicts are missing after {within_s} s"
        raise TimeoutError(message) from None
    finally:
        await consumer.stop()
