"""Start over from the log: empty what the workers have made, never what services and people have published."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from driftline.detectors.errors import OperatorError
from driftline.streams.kafka.connection import opened
from driftline.streams.kafka.group import describe_group, rewind
from driftline.streams.kafka.remedies import typed
from driftline.streams.kafka.topics import DEFAULT_PARTITIONS, TopicSpec, create_topics, partitions_of, topic_table

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from driftline.streams.config.settings import Settings

DELETED_TIMEOUT_S = 30.0
TOPIC_SETTING = 1
"""Where Kafka has a setting of a topic from, if it was made for that topic."""


class Emptied(NamedTuple):
    """A topic that is emptied.

    Parameters
    ----------
    spec
        What it is made anew as: the settings that it has now.
    replicas
        How many it has.
    records
        Offsets between its beginning and its end.
    """

    spec: TopicSpec
    replicas: int
    records: int


async def to_be_emptied(settings: Settings, also: Collection[str]) -> list[Emptied]:
    """Find out what a reset empties, and that it may.

    Parameters
    ----------
    settings
        Where Kafka is, the topics' names, and whose workers.
    also
        Keys of section ``topics`` that are emptied beside the changelogs and `partials`.

    Raises
    ------
    OperatorError
        While workers are in the group, and where there is no state of theirs.
    """
    from aiokafka import AIOKafkaConsumer, TopicPartition  # noqa: PLC0415 - 0.2 s that `--help` has no use for
    from aiokafka.admin import AIOKafkaAdminClient  # noqa: PLC0415 - likewise

    async with opened(AIOKafkaAdminClient, settings.kafka) as admin:
        await _refuse_members(admin, settings)
        known = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()}
        wanted = [spec for spec in _chosen(settings, known, also) if spec.name in known]
        if not any(spec.name.startswith(f"{settings.worker.app_id}-") for spec in wanted):
            raise OperatorError(
                f"worker.app_id = {settings.worker.app_id!r}: no workers of this name have saved a state; check the name, or "
                f"make the topics with {typed('topics create', settings.kafka, settings.worker.app_id)}"
            )
        configs = await _configs(admin, [spec.name for spec in wanted])
    async with opened(AIOKafkaConsumer, settings.kafka) as consumer:
        sizes = {}
        for spec in wanted:
            places = [TopicPartition(spec.name, each["partition"]) for each in known[spec.name]]
            begins, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
            sizes[spec.name] = sum(ends[place] - begins[place] for place in places)
    return [
        Emptied(spec._replace(config=configs[spec.name]), len(known[spec.name][0]["replicas"]), sizes[spec.name])
        for spec in wanted
    ]


async def reset(settings: Settings, emptied: Sequence[Emptied]) -> None:
    """Delete topics, make them anew, and let the group begin at the beginning.

    It may be interrupted and called again: what is missing by then is made as `topics create` makes it.

    Raises
    ------
    OperatorError
        While workers are in the group, or where Kafka refuses.
    """
    from aiokafka import AIOKafkaConsumer, TopicPartition  # noqa: PLC0415 - see `to_be_emptied`
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # noqa: PLC0415

    names = [each.spec.name for each in emptied]
    async with opened(AIOKafkaAdminClient, settings.kafka) as admin:
        await _refuse_members(admin, settings)
        _check((await admin.delete_topics(names)).topic_error_codes, "deleted")
        await _all_gone(admin, set(names))
        new = [
            NewTopic(each.spec.name, each.spec.partitions, each.replicas, topic_configs=dict(each.spec.config))
            for each in emptied
        ]
        _check((await admin.create_topics(new)).topic_errors, "made")
    await create_topics(settings)
    read = settings.topics.predictions, settings.topics.partials
    group = {"group_id": settings.worker.app_id, "enable_auto_commit": False}
    async with opened(AIOKafkaConsumer, settings.kafka, **group) as consumer:
        topics = {topic: await partitions_of(settings.kafka, topic) for topic in read}
        await rewind(consumer, [TopicPartition(topic, each) for topic, found in topics.items() for each in found])


def _chosen(settings: Settings, known: Mapping[str, Any], also: Collection[str]) -> list[TopicSpec]:
    """Topics to be emptied. The changelogs and `partials` get as many partitions as predictions have now."""
    names = msgspec.structs.asdict(settings.topics)
    named = {names[key]: len(known.get(names[key], ())) for key in also}
    published = {name for key, name in names.items() if key != "partials"}
    return [
        spec._replace(partitions=named.get(spec.name, spec.partitions))
        for spec in topic_table(settings, len(known.get(settings.topics.predictions, ())) or DEFAULT_PARTITIONS)
        if spec.name in named or spec.name not in published
    ]


async def _refuse_members(admin: Any, settings: Settings) -> None:
    """A worker that runs would write its state again."""
    app_id = settings.worker.app_id
    if members := (await describe_group(admin, app_id)).members:
        raise OperatorError(
            f"worker.app_id = {app_id!r}: {len(members)} workers are running, at {', '.join(members)}; stop them (SIGTERM); "
            f"one that was killed is forgotten after worker.session_timeout_s = {settings.worker.session_timeout_s:g}"
        )


async def _configs(admin: Any, topics: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the settings that were made for each topic; not the broker's defaults."""
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # noqa: PLC0415

    found: dict[str, dict[str, str]] = {}
    for answer in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in topics]):
        for _, _, _, name, entries in answer.resources:
            found[name] = {key: value for key, value, _, source, *_ in entries if source == TOPIC_SETTING}
    return found


async def _all_gone(admin: Any, names: set[str]) -> None:
    """Wait until no broker shows the topics any more."""
    try:
        async with asyncio.timeout(DELETED_TIMEOUT_S):
            while names & set(await admin.list_topics()):  # noqa: ASYNC110 - Kafka tells nobody
                await asyncio.sleep(DELETED_TIMEOUT_S / 200)
    except TimeoutError as error:
        raise OperatorError(f"topics still show {DELETED_TIMEOUT_S:g} s after they were deleted; call again") from error


def _check(answers: Sequence[Sequence[Any]], done: str) -> None:
    from aiokafka.errors import for_code  # noqa: PLC0415

    for name, code, *detail in answers:
        if code:
            said = " ".join(str(each) for each in detail if each)
            raise OperatorError(f"topic {name!r} can't be {done}: {for_code(code).__name__} {said}".strip())
