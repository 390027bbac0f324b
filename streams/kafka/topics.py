"""The topics: which there are, how they are partitioned and how long they keep what."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from driftline.detectors.errors import OperatorError
from driftline.detectors.tumbling import DECIDING, RECENT
from driftline.streams.kafka.connection import opened
from driftline.streams.kafka.remedies import typed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from driftline.streams.config.settings import Kafka, Settings

DEFAULT_PARTITIONS = 4
MAX_REPLICAS = 3
VISIBLE_TIMEOUT_S = 10.0
DAY_MS = 86_400_000


class TopicSpec(NamedTuple):
    """What a topic must be.

    Parameters
    ----------
    name
        The topic.
    partitions
        How many it has.
    config
        Kafka's topic settings that differ from the broker's.
    """

    name: str
    partitions: int
    config: Mapping[str, str]


class TopicFound(NamedTuple):
    """A topic as it is now.

    Parameters
    ----------
    name, partitions
        Which, and how many partitions it has.
    existed
        Whether it was there before; its settings were then left alone.
    """

    name: str
    partitions: int
    existed: bool


def topic_table(settings: Settings, partitions: int) -> list[TopicSpec]:
    """Return every topic that driftline reads or writes.

    Parameters
    ----------
    settings
        The topics' names and the workers' ``app_id``.
    partitions
        Of `predictions`. `partials` and both changelogs must have as many: a partition's counts and its snapshot
        follow it to the same worker. `baselines` and `alerts` are small and read whole: one each.

    Examples
    --------
    >>> from driftline.streams.config.settings import Settings
    >>> for spec in topic_table(Settings(), 4):
    ...     print(spec.name, spec.partitions, spec.config.get("cleanup.policy", "the broker's"))
    predictions 4 the broker's
    baselines 1 compact
    partials 4 delete
    windows 4 delete
    alerts 1 compact,delete
    dead-letters 4 delete
    driftline-profiles-changelog 4 compact
    driftline-verdicts-changelog 4 compact
    """
    topics, app_id = settings.topics, settings.worker.app_id
    return [
        TopicSpec(topics.predictions, partitions, STAMPED),  # the rest is the user's own, and theirs to keep
        TopicSpec(topics.baselines, 1, COMPACT | KEEP_A_YEAR),
        TopicSpec(topics.partials, partitions, _delete_after(1) | STAMPED),
        TopicSpec(topics.windows, partitions, _delete_after(365)),
        TopicSpec(topics.alerts, 1, COMPACT | _delete_after(365) | {"cleanup.policy": "compact,delete"}),
        TopicSpec(topics.dead_letters, partitions, _delete_after(14)),
        TopicSpec(f"{app_id}-profiles-changelog", partitions, COMPACT),
        TopicSpec(f"{app_id}-verdicts-changelog", partitions, COMPACT),
    ]


async def create_topics(settings: Settings, partitions: int | None = None) -> list[TopicFound]:
    """Make the topics that are missing; those that exist stay as they are.

    Parameters
    ----------
    settings
        Where Kafka is and how the topics are called.
    partitions
        Of `predictions`; None: as many as it has, and 4 where it is missing.

    Returns
    -------
    Every topic, in the order of :func:`topic_table`.

    Raises
    ------
    KafkaUnreachable
        Where no broker answers.
    OperatorError
        Where a topic can't be made, or one that exists has the wrong number of partitions.
    """
    from aiokafka.admin import AIOKafkaAdminClient  # noqa: PLC0415 - 0.2 s that `--help` has no use for

    async with opened(AIOKafkaAdminClient, settings.kafka) as admin:
        known = await _sizes(admin)
        wanted = topic_table(settings, partitions or known.get(settings.topics.predictions, DEFAULT_PARTITIONS))
        _check_partitions(settings, wanted, known)
        missing = [spec for spec in wanted if spec.name not in known]
        if missing:
            await _create(admin, missing)
            _check_partitions(settings, wanted, await _all_there(admin, wanted))  # somebody else may have been quicker
    return [TopicFound(spec.name, spec.partitions, spec.name in known) for spec in wanted]


async def stamps_by_producers(kafka: Kafka, topic: str) -> str | None:
    """What is to be told, and done, of a topic whose records bear their producers' time; None where they don't.

    None, too, where the broker does not say: this user has no ACL to ask (DescribeConfigs), or it is an embedded one.
    """
    from aiokafka.admin import AIOKafkaAdminClient  # noqa: PLC0415 - see `create_topics`
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # noqa: PLC0415

    try:
        async with opened(AIOKafkaAdminClient, kafka) as admin:
            answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    except OperatorError:
        return None
    found = {name: value for answer in answers for resource in answer.resources for name, value, *_ in resource[4]}
    if found.get(STAMP) != "CreateTime":
        return None
    return (
        f"topic {topic!r} keeps the time that its producers tell ({STAMP}=CreateTime), so a window closes only once "
        f"{DECIDING} of a partition's last {RECENT} records are past it: better let the broker stamp records, by "
        f"`kafka-configs.sh --bootstrap-server {kafka.bootstrap_servers} --alter --entity-type topics "
        f"--entity-name {topic} --add-config {STAMP}=LogAppendTime`"
    )


async def partitions_of(kafka: Kafka, topic: str) -> list[int]:
    """Return the numbers of a topic's partitions; the asking never makes the topic.

    Raises
    ------
    KafkaUnreachable
        Where no broker answers.
    OperatorError
        Where there is no such topic.
    """
    from aiokafka.admin import AIOKafkaAdminClient  # noqa: PLC0415 - see `create_topics`

    async with opened(AIOKafkaAdminClient, kafka) as admin:
        for known in await admin.describe_topics():
            if known["topic"] == topic:
                return sorted(partition["partition"] for partition in known["partitions"])
    # Kafka does not tell one from the other, so that nobody learns of topics that are none of his business.
    hidden = "" if kafka.security_protocol == "PLAINTEXT" else " (or this user has no ACL to see it)"
    raise OperatorError(f"topic {topic!r} does not exist{hidden}: make the topics with {typed('topics create', kafka)}")


def _check_partitions(settings: Settings, wanted: Sequence[TopicSpec], known: Mapping[str, int]) -> None:
    """Refuse a topic that exists with another number of partitions than those it must go with."""
    free = settings.topics.windows, settings.topics.dead_letters  # written only, by key or by turns
    for spec in wanted:
        if spec.name not in free and known.get(spec.name, spec.partitions) != spec.partitions:
            raise OperatorError(
                f"topic {spec.name!r} exists with {known[spec.name]} partitions, needed are {spec.partitions}: give "
                f"--partitions {known[spec.name]}, or remove the topic, or name another"
            )


async def _sizes(admin: Any) -> dict[str, int]:
    """Return topic to number of partitions."""
    return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}


async def _all_there(admin: Any, specs: Sequence[TopicSpec]) -> dict[str, int]:
    """Wait until the topics show: brokers learn of a topic a moment after the controller made it."""
    names = {spec.name for spec in specs}
    try:
        async with asyncio.timeout(VISIBLE_TIMEOUT_S):
            while not names <= (sizes := await _sizes(admin)).keys():  # noqa: ASYNC110 - Kafka tells nobody
                await asyncio.sleep(VISIBLE_TIMEOUT_S / 200)
    except TimeoutError as error:
        raise OperatorError(f"topics were made but do not show after {VISIBLE_TIMEOUT_S:g} s; call again") from error
    return sizes


async def _create(admin: Any, specs: Sequence[TopicSpec]) -> None:
    from aiokafka.admin import NewTopic  # noqa: PLC0415 - see `create_topics`
    from aiokafka.errors import TopicAlreadyExistsError, for_code  # noqa: PLC0415

    cluster = await admin.describe_cluster()
    brokers = [broker["node_id"] for broker in cluster["brokers"]]
    if cluster["controller_id"] not in brokers:
        raise OperatorError("this broker makes no topics on request; an embedded one is told its topics at its start")
    replicas = min(MAX_REPLICAS, len(brokers))
    answer = await admin.create_topics(
        [NewTopic(spec.name, spec.partitions, replicas, topic_configs=dict(spec.config)) for spec in specs]
    )
    for name, code, *detail in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:  # somebody else was quicker
            raise OperatorError(
                f"topic {name!r} can't be made: {error.__name__} {' '.join(filter(None, detail))}".strip()
            )


def _delete_after(days: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(days * DAY_MS)}


STAMP = "message.timestamp.type"
STAMPED: dict[str, str] = {STAMP: "LogAppendTime"}
"""The broker's clock lies in the log then: no producer's clock can be ahead of it."""

# Kafka compacts closed segments only, and by default closes one at 1 GB: a worker that restores would read that much.
COMPACT: dict[str, str] = {
    "cleanup.policy": "compact",
    "segment.bytes": str(64 * 2**20),
    "min.cleanable.dirty.ratio": "0.1",
}

# A replay judges old windows by the baselines that were in force then, so those are not compacted away at once.
KEEP_A_YEAR: dict[str, str] = {"min.compaction.lag.ms": str(365 * DAY_MS)}
