from __future__ import annotations

import asyncio
import json
from itertools import repeat
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from driftline.detectors.errors import OperatorError
from driftline.detectors.records import PositionalPrediction, Prediction
from driftline.streams.cli import run
from driftline.streams.cli_publish import publish_all
from driftline.streams.config import Kafka, Settings
from driftline.streams.embedded import EmbeddedBroker, embedded_broker
from driftline.streams.reader import TopicReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.embedded


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with embedded_broker({"predictions": 2}) as running:
        yield running


def published(broker: EmbeddedBroker, kind: type[Any] = Prediction) -> list[Any]:
    async def scenario() -> list[Any]:
        async with TopicReader(broker.bootstrap_servers, "predictions", kind, "beginning", "end") as predictions:
            found = [each async for each in predictions]
        assert predictions.undecodable == 0
        return found

    return asyncio.run(scenario())


def test_a_csv_file_arrives_as_predictions(
    broker: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log.csv"
    path.write_text("id,timestamp,age,plan,prediction\na,1700000000,41,basic,0.25\nb,1700000001,,pro,0.75\n")
    arguments = ["publish", str(path), "--model", "churn", "--version", "v3"]
    assert run([*arguments, "--bootstrap-servers", broker.bootstrap_servers]) == 0
    assert capsys.readouterr().out == "2 records acknowledged\n"
    first, second = sorted(published(broker), key=lambda each: each.id)
    assert first == Prediction(
        model="churn",
        version="v3",
        id="a",
        timestamp=1_700_000_000,
        features={"age": 41.0, "plan": "basic"},
        prediction=0.25,
    )
    assert second.features == {"age": None, "plan": "pro"}


def test_a_log_of_the_positional_form_arrives_as_it_stands(broker: EmbeddedBroker, tmp_path: Path) -> None:
    logged = {"input": [0.5, 2.1], "output": 0.9, "model_version": "v1.2", "timestamp": 1_700_000_000}
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(logged) + "\n")
    assert run(["publish", str(path), "--bootstrap-servers", broker.bootstrap_servers]) == 0
    assert published(broker, PositionalPrediction) == [msgspec.convert(logged, PositionalPrediction)]


def test_what_is_published_is_acknowledged_and_keyed_by_id(broker: EmbeddedBroker) -> None:
    documents = [
        {"model": "m", "version": "v", "id": number % 10, "features": {}, "prediction": number}
        for number in range(3_000)
    ]
    settings = Settings(kafka=Kafka(bootstrap_servers=broker.bootstrap_servers))
    assert asyncio.run(publish_all(settings, documents, None)) == 3_000
    found = published(broker)
    assert len(found) == 3_000
    for identifier in range(10):  # one partition each, so in order
        own = [each.prediction for each in found if each.id == identifier]
        assert own == sorted(own)


def test_the_rate_is_not_exceeded(broker: EmbeddedBroker) -> None:
    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        settings = Settings(kafka=Kafka(bootstrap_servers=broker.bootstrap_servers))
        document = {"model": "m", "version": "v", "features": {}, "prediction": 1.0}
        assert await publish_all(settings, repeat(document, 100), 200.0) == 100
        return loop.time() - began

    assert asyncio.run(scenario()) >= 0.5  # a lower bound only: sleeping is what is promised


def test_a_row_that_is_no_json_is_named(broker: EmbeddedBroker) -> None:
    settings = Settings(kafka=Kafka(bootstrap_servers=broker.bootstrap_servers))
    with pytest.raises(OperatorError, match="row 2: can't be written as JSON"):
        asyncio.run(publish_all(settings, [{"prediction": 1}, {"prediction": 2**70}], None))


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["publish", str(tmp_path / "no.csv"), "--bootstrap-servers", "127.0.0.1:1"]) == 2
    assert "no.csv: No such file" in capsys.readouterr().err
