from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from driftline.detectors.plan import plan_from
from driftline.streams.cli.main import run
from driftline.streams.kafka.connection import opened
from driftline.streams.kafka.topics import create_topics, partitions_of
from tests.fleet import (
    Workers,
    expected,
    outcome_on,
    publish,
    records_on,
    settings_for,
    states_saved,
    verdicts_complete,
)
from tests.logs import Shape, baselines, prediction_log, watching
from tests.memory_broker import Record
from tests.test_topics import configs

if TYPE_CHECKING:
    from pathlib import Path

    from driftline.streams.config.settings import Settings


def log_of(settings: Settings, n: int) -> list[list[Record]]:
    """A log over two partitions, as a consumer gets it."""
    entries = prediction_log(5, Shape(n=n, step_ms=100))
    topic = settings.topics.predictions
    return [
        [Record(topic, half, row, each.appended_ms, each.value) for row, each in enumerate(entries[half::2])]
        for half in range(2)
    ]


async def count(settings: Settings, topic: str) -> int:
    return len([record async for record in records_on(settings, topic)])


async def grow(settings: Settings, topic: str, partitions: int) -> None:
    async with opened(AIOKafkaAdminClient, settings.kafka) as admin:
        await admin.create_partitions({topic: NewPartitions(partitions)})
    while len(await partitions_of(settings.kafka, topic)) < partitions:  # noqa: ASYNC110 - a broker hears of it later
        await asyncio.sleep(0.05)


@pytest.mark.kafka
def test_a_wrong_first_try_is_undone_and_the_second_gives_the_right_verdicts(
    kafka: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong, wrong_config = settings_for(kafka, "undone", tmp_path, window_ms=3_600_000)
    asyncio.run(create_topics(wrong, 2))
    log = log_of(wrong, 3_000)
    asyncio.run(publish(wrong, baselines(), log))
    ends = {place: len(records) for place, records in enumerate(log)}
    with Workers(wrong_config) as fleet:
        worker = fleet.start()
        asyncio.run(states_saved(wrong, ends, within_s=60))
        assert run(["--config", str(wrong_config), "reset", "--yes"]) == 2
        assert "1 workers are running" in capsys.readouterr().err
        assert fleet.leave(worker) == 0

    settings, config = settings_for(kafka, "undone", tmp_path)
    with Workers(config) as fleet:  # the control: without the reset the second try is refused, by its remedy's name
        assert fleet.start().wait(60) == 2
        (path,) = fleet.logs.values()
        assert "`driftline reset`" in path.read_text()
        fleet.running.clear()

    command = ["--config", str(config), "reset", "--also", "windows", "--also", "alerts"]
    for answer in ("", "n\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        assert run(command) == 2
        assert "nothing was done" in capsys.readouterr().err
    before = asyncio.run(configs(kafka, ["undone-partials", "undone-profiles-changelog"]))
    assert run([*command, "--yes"]) == 0
    said = capsys.readouterr().out
    assert "undone-profiles-changelog" in said
    assert "undone-predictions" not in said
    assert asyncio.run(configs(kafka, list(before))) == before
    assert asyncio.run(count(settings, "undone-predictions")) == sum(ends.values())
    assert asyncio.run(count(settings, "undone-baselines")) == len(baselines())
    assert asyncio.run(count(settings, "undone-windows")) == 0

    wanted = expected(watching(plan_from({}), *baselines()), log)
    with Workers(config) as fleet:
        fleet.start()
        asyncio.run(verdicts_complete(settings, wanted, within_s=60))
        asyncio.run(states_saved(settings, ends, within_s=30))
        assert fleet.stop() == [0]
    found = asyncio.run(outcome_on(settings))
    assert found.verdicts == wanted.verdicts
    assert found.alerts == wanted.alerts


@pytest.mark.kafka
def test_after_predictions_grew_a_reset_makes_the_states_topics_as_many(kafka: str, tmp_path: Path) -> None:
    settings, config = settings_for(kafka, "grown", tmp_path)
    asyncio.run(create_topics(settings, 2))
    asyncio.run(grow(settings, "grown-predictions", 3))
    assert run(["--config", str(config), "topics", "create"]) == 2
    assert run(["--config", str(config), "reset", "--yes"]) == 0
    assert run(["--config", str(config), "topics", "create"]) == 0
    for topic in ("grown-partials", "grown-profiles-changelog", "grown-verdicts-changelog"):
        assert asyncio.run(partitions_of(settings.kafka, topic)) == [0, 1, 2]


@pytest.mark.kafka
def test_a_misspelt_app_id_empties_nothing(kafka: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings, config = settings_for(kafka, "spelt", tmp_path)
    asyncio.run(create_topics(settings, 1))
    assert run(["--config", str(config), "reset", "--yes", "--app-id", "spetl"]) == 2
    assert "worker.app_id = 'spetl': no workers of this name" in capsys.readouterr().err


@pytest.mark.kafka
def test_predictions_are_emptied_only_by_name(kafka: str, tmp_path: Path) -> None:
    settings, config = settings_for(kafka, "named", tmp_path)
    asyncio.run(create_topics(settings, 2))
    log = log_of(settings, 20)
    asyncio.run(publish(settings, baselines(), log))
    assert run(["--config", str(config), "reset", "--yes"]) == 0
    assert asyncio.run(count(settings, "named-predictions")) == 20
    assert run(["--config", str(config), "reset", "--yes", "--also", "predictions"]) == 0
    assert asyncio.run(count(settings, "named-predictions")) == 0
    assert asyncio.run(count(settings, "named-baselines")) == len(baselines())
