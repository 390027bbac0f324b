from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from driftline.streams.cli.main import run
from driftline.streams.kafka.topics import create_topics
from tests.fleet import Workers, expected, publish, settings_for, states_saved, verdicts_complete
from tests.logs import START_MS, baselines, watching
from tests.test_cli_reset import log_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.kafka
def test_status_tells_lag_watermarks_verdicts_rejects_baselines_and_workers(
    kafka: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, config = settings_for(kafka, "status", tmp_path)
    command = ["--config", str(config), "status"]
    asyncio.run(create_topics(settings, 2))
    assert run(command) == 0  # before anything has happened
    assert "workers of status: 0" in capsys.readouterr().out

    log = log_of(settings, 2_000)
    ends = {place: len(records) for place, records in enumerate(log)}
    asyncio.run(publish(settings, baselines(), log))
    assert run([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    lag = {
        each["partition"]: each["end"] - max(0, each["committed"]) for each in found["lags"] if "pred" in each["topic"]
    }
    assert lag == ends

    watch = watching(settings.plan, *baselines())
    with Workers(config) as fleet:
        fleet.start()
        asyncio.run(verdicts_complete(settings, expected(watch, log), within_s=60))
        asyncio.run(states_saved(settings, ends, within_s=60))
        assert run([*command, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["group"] == "Stable"
        assert len(found["workers"]) == 1
        assert fleet.stop() == [0]

    assert run([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(each["end"] == each["committed"] for each in found["lags"] if "predictions" in each["topic"])
    assert set(found["watermarks"]) == {"0", "1"}
    assert min(found["watermarks"].values()) > START_MS
    assert {(each["model"], each["version"]) for each in found["baselines"]} == {
        (each.model, each.version) for each in baselines()
    }
    assert {each["model"] for each in found["verdicts"]} == {"churn", "fraud"}
    assert sum(each["n"] for each in found["rejected"]) > 0

    assert run(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split()[:1] == ["churn"] for line in lines)
