"""How the workers of an ``app_id`` are, as far as Kafka tells: no worker is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from driftline.detectors.documents.baseline import Baseline
from driftline.detectors.errors import OperatorError
from driftline.detectors.verdicts.decide import Verdict
from driftline.streams.client.times import marks
from driftline.streams.formats.letters import Counts, letter_of, sender
from driftline.streams.kafka.connection import opened
from driftline.streams.kafka.group import describe_group
from driftline.streams.kafka.reader import RecordReader, TopicReader
from driftline.streams.kafka.topics import partitions_of

if TYPE_CHECKING:
    from driftline.streams.config.settings import Settings

RECENT = 2_000
"""Records of each partition of `windows` and `dead-letters` that are looked at."""


class Lag(msgspec.Struct, frozen=True):
    """How far the group is in a partition: the next offset that it would read after a restart, and the log's end."""

    topic: str
    partition: int
    committed: int
    end: int

    @property
    def records(self) -> int:
        """Records between the two."""
        return max(0, self.end - max(0, self.committed))


class Judged(msgspec.Struct, frozen=True):
    """The newest verdict on a model version."""

    model: str
    version: str
    start_ms: int
    n: int
    status: str
    final: bool


class Rejected(msgspec.Struct, frozen=True):
    """Dead letters among the newest ones, by reason and by the model version that they name."""

    reason: str
    model: str
    version: str
    n: int


class InForce(msgspec.Struct, frozen=True):
    """A baseline, newest of its model version."""

    model: str
    version: str
    hash: str
    effective_from_ms: int
    rows: int
    signals: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """All of it.

    Parameters
    ----------
    app_id, group, workers
        Whose status; Kafka's word for the group's state; the hosts of its members.
    lags
        Per partition of predictions and partials.
    watermarks
        Partition of the predictions to the event time up to which its windows are closed.
    verdicts, rejected, baselines
        By model version.
    """

    app_id: str
    group: str
    workers: list[str]
    lags: list[Lag]
    watermarks: dict[int, int]
    verdicts: list[Judged]
    rejected: list[Rejected]
    baselines: list[InForce]


async def status_of(settings: Settings) -> Status:
    """Ask Kafka for everything."""
    from aiokafka.admin import AIOKafkaAdminClient  # noqa: PLC0415 - 0.2 s that `--help` has no use for

    app_id = settings.worker.app_id
    async with opened(AIOKafkaAdminClient, settings.kafka) as admin:
        group = await describe_group(admin, app_id)
    lags = []
    for topic in (settings.topics.predictions, settings.topics.partials):
        async with RecordReader(settings.kafka, topic, "end", "end") as reader:
            lags += [
                Lag(topic, partition, group.committed.get((topic, partition), -1), end)
                for partition, end in sorted(reader.ends.items())
            ]
    return Status(
        app_id=app_id,
        group=group.state,
        workers=group.members,
        lags=lags,
        watermarks={partition: mark.closed_ms for partition, mark in sorted((await marks(settings)).items())},
        verdicts=await _verdicts(settings),
        rejected=await _rejected(settings),
        baselines=await _baselines(settings),
    )


async def _verdicts(settings: Settings) -> list[Judged]:
    newest: dict[tuple[str, str], Judged] = {}
    async with TopicReader(settings.kafka, settings.topics.windows, Verdict, RECENT, "end") as reader:
        async for each in reader:
            key, start_ms = (each.model, each.version), each.window.start_ms
            if key not in newest or start_ms >= newest[key].start_ms:
                newest[key] = Judged(*key, start_ms, each.n, each.status, each.final)
    return [newest[key] for key in sorted(newest)]


async def _rejected(settings: Settings) -> list[Rejected]:
    counts = Counts()
    async with RecordReader(settings.kafka, settings.topics.dead_letters, RECENT, "end") as reader:
        async for record in reader:
            if (letter := letter_of(record)) is not None:
                counts.add((letter.reason, *sender(letter.value)))
    return [Rejected(reason, model, version, n) for (reason, model, version), n in counts.ranked()]


async def _baselines(settings: Settings) -> list[InForce]:
    newest: dict[tuple[str, str], InForce] = {}
    await partitions_of(settings.kafka, settings.topics.baselines)
    async with RecordReader(settings.kafka, settings.topics.baselines, "beginning", "end") as reader:
        async for record in reader:
            try:
                found = Baseline.from_json(record.value or b"")
            except OperatorError:
                continue
            key = found.model, found.version
            if key not in newest or found.effective_from_ms >= newest[key].effective_from_ms:
                newest[key] = InForce(*key, found.hash, found.effective_from_ms, found.n, len(found.signals))
    return [newest[key] for key in sorted(newest)]
