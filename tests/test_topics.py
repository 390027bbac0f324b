from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from driftline.detectors.errors import OperatorError
from driftline.streams.cli.main import run
from driftline.streams.config.settings import Kafka, Settings, Topics, Worker
from driftline.streams.demo.embedded import embedded_broker
from driftline.streams.kafka.connection import opened
from driftline.streams.kafka.topics import create_topics, partitions_of, stamps_by_producers, topic_table
from driftline.streams.worker.app import work

if TYPE_CHECKING:
    from collections.abc import Sequence

JARS = Path(__file__).parents[1] / ".kafka" / "lib"
DAY_MS = 24 * 60 * 60 * 1000


def test_what_follows_a_partition_has_as_many_as_predictions() -> None:
    found = {spec.name: spec.partitions for spec in topic_table(Settings(worker=Worker(app_id="blue")), 7)}
    followers = ("predictions", "partials", "blue-profiles-changelog", "blue-verdicts-changelog")
    assert {found[name] for name in followers} == {7}


def of(address: str, prefix: str) -> Settings:
    """Settings of which every topic begins with a prefix of its own."""
    names = ("predictions", "baselines", "partials", "windows", "alerts", "dead_letters")
    topics = Topics(**{name: f"{prefix}-{name.replace('_', '-')}" for name in names})
    return Settings(kafka=Kafka(bootstrap_servers=address), topics=topics, worker=Worker(app_id=f"{prefix}-app"))


async def configs(address: str, topics: Sequence[str]) -> dict[str, dict[str, str]]:
    """Topic to Kafka's own idea of its settings."""
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in topics]
    async with opened(AIOKafkaAdminClient, Kafka(bootstrap_servers=address)) as admin:
        (answer,) = await admin.describe_configs(asked)
    return {name: {key: value for key, value, *_ in entries} for _, _, _, name, entries in answer.resources}


@pytest.mark.kafka
def test_a_worker_without_its_changelogs_refuses_to_start_and_its_remedy_makes_them(kafka: str, tmp_path: Path) -> None:
    """Its producer has to know them before Kafka can be away: a topic that it met only then would be a missing one."""
    settings = of(kafka, "bare")
    asyncio.run(create_topics(settings, 2))
    other = msgspec.structs.replace(settings, worker=Worker(app_id="other"))
    with pytest.raises(
        OperatorError, match="no topic other-profiles-changelog, other-verdicts-changelog: make the topics"
    ):
        asyncio.run(work(other))
    with pytest.raises(OperatorError) as refused:
        asyncio.run(work(other))
    (remedy,) = re.findall(r"`driftline (.+?)`", str(refused.value))
    config = tmp_path / "driftline.toml"
    config.write_text(
        "\n".join(f'topics.{key} = "{name}"' for key, name in msgspec.structs.asdict(settings.topics).items())
    )
    assert run(["--config", str(config), *shlex.split(remedy)]) == 0
    for topic in ("other-profiles-changelog", "other-verdicts-changelog"):
        assert asyncio.run(partitions_of(settings.kafka, topic)) == [0, 1]


@pytest.mark.kafka
def test_the_second_time_every_topic_exists_and_is_as_told(kafka: str) -> None:
    async def scenario() -> None:
        settings = of(kafka, "told")
        made = await create_topics(settings, 3)
        assert [topic.existed for topic in made] == [False] * 8
        assert [topic.existed for topic in await create_topics(settings, 3)] == [True] * 8
        assert {topic.name: topic.partitions for topic in made} == {
            "told-predictions": 3,
            "told-baselines": 1,
            "told-partials": 3,
            "told-windows": 3,
            "told-alerts": 1,
            "told-dead-letters": 3,
            "told-app-profiles-changelog": 3,
            "told-app-verdicts-changelog": 3,
        }
        for topic in made:
            assert len(await partitions_of(settings.kafka, topic.name)) == topic.partitions
        found = await configs(kafka, [topic.name for topic in made])
        policies = {name: config["cleanup.policy"] for name, config in found.items()}
        assert policies == {
            "told-predictions": "delete",
            "told-baselines": "compact",
            "told-partials": "delete",
            "told-windows": "delete",
            "told-alerts": "compact,delete",
            "told-dead-letters": "delete",
            "told-app-profiles-changelog": "compact",
            "told-app-verdicts-changelog": "compact",
        }
        for name, days in (("partials", 1), ("windows", 365), ("alerts", 365), ("dead-letters", 14)):
            assert int(found[f"told-{name}"]["retention.ms"]) == days * DAY_MS

    asyncio.run(scenario())


@pytest.mark.kafka
def test_the_rest_follows_predictions_that_are_there_already(kafka: str) -> None:
    async def scenario() -> None:
        settings = of(kafka, "theirs")
        ours = await create_topics(of(kafka, "ours"), None)
        assert ours[0].partitions == 4
        renamed = Settings(
            kafka=settings.kafka,
            topics=Topics(predictions="ours-predictions", partials="theirs-partials", windows="theirs-windows"),
            worker=settings.worker,
        )
        found = {topic.name: topic for topic in await create_topics(renamed)}
        assert found["ours-predictions"].existed
        assert found["theirs-partials"].partitions == 4

    asyncio.run(scenario())


@pytest.mark.kafka
def test_another_number_of_partitions_is_refused_before_anything_is_made(kafka: str) -> None:
    async def scenario() -> None:
        settings = of(kafka, "few")
        await create_topics(settings, 2)
        more = Settings(kafka=settings.kafka, topics=settings.topics, worker=Worker(app_id="few-new"))
        with pytest.raises(
            OperatorError, match=r"'few-predictions' exists with 2 partitions, needed are 5: give --par"
        ):
            await create_topics(more, 5)
        with pytest.raises(OperatorError, match="'few-new-profiles-changelog' does not exist"):
            await partitions_of(settings.kafka, "few-new-profiles-changelog")

    asyncio.run(scenario())


@pytest.mark.embedded
def test_a_broker_that_makes_no_topics_says_so() -> None:
    with embedded_broker({}) as broker, pytest.raises(OperatorError, match="makes no topics on request"):
        asyncio.run(create_topics(Settings(kafka=Kafka(bootstrap_servers=broker.bootstrap_servers)), 1))


@pytest.mark.kafka
def test_predictions_and_partials_bear_the_brokers_time(kafka: str) -> None:
    async def scenario() -> None:
        settings = of(kafka, "stamped")
        await create_topics(settings, 1)
        found = await configs(kafka, ["stamped-predictions", "stamped-partials"])
        assert {config["message.timestamp.type"] for config in found.values()} == {"LogAppendTime"}
        assert await stamps_by_producers(settings.kafka, "stamped-predictions") is None

    asyncio.run(scenario())


@pytest.mark.kafka
def test_a_topic_with_its_producers_time_is_told_with_a_remedy_that_works_as_typed(kafka: str, tmp_path: Path) -> None:
    settings = of(kafka, "theirs-own")

    async def advice(*, wanted: bool) -> str:
        """What is told, once the broker's answer is the one that it must come to."""
        async with asyncio.timeout(20):
            while bool(told := await stamps_by_producers(settings.kafka, settings.topics.predictions)) is not wanted:  # noqa: ASYNC110 - Kafka tells nobody
                await asyncio.sleep(0.1)
        return told or ""

    async def as_another_tool_makes_it() -> str:
        async with opened(AIOKafkaAdminClient, settings.kafka) as admin:
            await admin.create_topics([NewTopic(settings.topics.predictions, 1, 1)])
        return await advice(wanted=True)

    told = asyncio.run(as_another_tool_makes_it())
    assert "CreateTime" in told
    [typed] = re.findall(r"`kafka-configs\.sh (.*)`", told)
    java = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*", "kafka.admin.ConfigCommand"]
    subprocess.run([*java, *shlex.split(typed)], check=True, capture_output=True, cwd=tmp_path)
    assert asyncio.run(advice(wanted=False)) == ""


@pytest.mark.embedded
def test_a_broker_that_does_not_say_whose_time_its_topics_bear_is_no_matter_for_a_warning() -> None:
    with embedded_broker({"predictions": 1}) as broker:
        kafka = Kafka(bootstrap_servers=broker.bootstrap_servers)
        assert asyncio.run(stamps_by_producers(kafka, "predictions")) is None
