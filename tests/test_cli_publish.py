from __future__ import annotations

import asyncio
import json
from itertools import repeat
from typing import TYPE_CHECKING, Any

import duckdb
import msgspec
import numpy as np
import pytest

from driftline.detectors.baselines.fit import fit
from driftline.detectors.baselines.training import CategoricalColumn, NumericColumn
from driftline.detectors.documents.predictions import PositionalPrediction, Prediction
from driftline.detectors.errors import OperatorError
from driftline.streams.cli.main import run
from driftline.streams.cli.publish import publish_all
from driftline.streams.config.settings import Kafka, Settings
from driftline.streams.demo.embedded import EmbeddedBroker, embedded_broker
from driftline.streams.kafka.reader import RecordReader, TopicReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.embedded


MINUTE_MS = 60_000
CARS: dict[str, Any] = {
    "age": [1.0, 2.0, 3.0, 4.0],
    "plan": ["basic", "pro", "basic", "pro"],
    "prediction": [0.1, 0.2, 0.3, 0.4],
}


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with embedded_broker({"predictions": 2, "baselines": 1}) as running:
        yield running


def by_partition(broker: EmbeddedBroker) -> dict[int, list[float]]:
    """Times of the records of each partition, in their order."""

    async def scenario() -> dict[int, list[float]]:
        found: dict[int, list[float]] = {}
        async with RecordReader(broker.bootstrap_servers, "predictions", "beginning", "end") as predictions:
            async for record in predictions:
                found.setdefault(record.partition, []).append(json.loads(record.value)["timestamp"])
        return found

    return asyncio.run(scenario())


def watched(broker: EmbeddedBroker, tmp_path: Path, effective_from: str | None = None, **columns: Any) -> None:
    """Publish a baseline of model churn, version v3."""
    path = tmp_path / "baseline.json"
    path.write_bytes(fit("churn", "v3", columns or CARS).to_json())
    since = [] if effective_from is None else ["--effective-from", effective_from]
    arguments = ["baseline", "publish", str(path), "--bootstrap-servers", broker.bootstrap_servers, *since]
    assert run(arguments) == 0


def publish(broker: EmbeddedBroker, path: Path, *options: str, named: bool = True) -> int:
    named_options = ["--model", "churn", "--version", "v3"] if named else []
    return run(["publish", str(path), *named_options, *options, "--bootstrap-servers", broker.bootstrap_servers])


def timed_rows(path: Path, times_s: Iterable[float], header: str = "timestamp,age,plan,prediction") -> Path:
    rows = "".join(f"{1_700_000_000 + time_s},1,basic,0.5\n" for time_s in times_s)
    path.write_text(f"{header}\n{rows}")
    return path


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
    watched(broker, tmp_path)
    path = tmp_path / "log.csv"
    path.write_text("id,timestamp,age,plan,prediction\n007,1700000000,41,basic,0.25\nb,1700000001,,pro,0.75\n")
    capsys.readouterr()
    assert publish(broker, path) == 0
    said = capsys.readouterr()
    assert said.out == "2 records acknowledged\n"
    assert "2 of 2 records will be used, of 2023-11-14T22:13:20Z to 2023-11-14T22:13:21Z" in said.err
    assert "1 of 1 windows of 60000 ms will hold fewer than 100 records" in said.err
    first, second = sorted(published(broker), key=lambda each: each.id)
    assert first == Prediction(
        model="churn",
        version="v3",
        id="007",
        timestamp=1_700_000_000,
        features={"age": 41.0, "plan": "basic"},
        prediction=0.25,
    )
    assert second.features == {"age": None, "plan": "pro"}


def test_a_log_of_the_positional_form_arrives_as_it_stands(broker: EmbeddedBroker, tmp_path: Path) -> None:
    watched(broker, tmp_path)
    logged = {"input": [0.5, "pro"], "output": 0.9, "model_version": "v3", "timestamp": 1_700_000_000}
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(logged) + "\n")
    assert publish(broker, path) == 0
    assert published(broker, PositionalPrediction) == [
        msgspec.convert({"model": "churn", **logged}, PositionalPrediction)
    ]


def test_a_dry_run_says_it_all_and_sends_nothing(
    broker: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watched(broker, tmp_path)
    assert publish(broker, timed_rows(tmp_path / "log.csv", range(10)), "--dry-run") == 0
    assert "10 of 10 records will be used" in capsys.readouterr().err
    assert published(broker) == []


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("age,prediction\n1,2\n", ["--version", "v3"], "row 1: tells no model: give --model"),
        ("age,prediction\n1,2\n", ["--model", "churn"], "row 1: tells no version: give --version"),
        (
            "age,prediction\n1,2\n",
            ["--model", "other", "--version", "v3"],
            "no baseline of model 'other', version 'v3'",
        ),
        (
            "timestamp,age,prediction\nyesterday,1,2\n",
            ["--model", "churn", "--version", "v3"],
            "1 records will be refused as bad_timestamp, the first at row 1: name the column of the time",
        ),
        (
            "timestamp,age,prediction\n4000000000,1,2\n",
            ["--model", "churn", "--version", "v3"],
            "refused as ahead, the first at row 1: their times lie in the future",
        ),
        ("age,prediction\n1,2\n", ["--model", "churn", "--version", "v3", "--id", "nr"], "--id nr: "),
        ("age,prediction\n1,2\n", ["--model", "churn", "--version", "v3", "--ignore", "x"], "--ignore x: "),
        (
            "age,score,prediction\n1,2,3\n",
            ["--model", "churn", "--version", "v3", "--prediction", "score"],
            "too; --ignore",
        ),
    ],
)
def test_where_nothing_could_be_used_nothing_is_sent_and_the_remedy_is_said(
    content: str,
    options: list[str],
    said: str,
    broker: EmbeddedBroker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    watched(broker, tmp_path)
    (path := tmp_path / "log.csv").write_text(content)
    assert publish(broker, path, *options, named=False) == 2
    assert said in capsys.readouterr().err
    assert published(broker) == []


def test_records_before_the_first_baseline_are_told(
    broker: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watched(broker, tmp_path, "2023-11-14T22:15Z")
    assert publish(broker, timed_rows(tmp_path / "log.csv", range(0, 200, 10)), "--dry-run") == 0
    said = capsys.readouterr().err
    assert "10 of 20 records will be used" in said  # from 22:15 on, 100 s after the first
    assert "10 records will be refused as no_baseline_yet, the first at row 1" in said


@pytest.mark.parametrize("name", ["model", "version", "id", "timestamp"])
def test_a_column_called_like_a_field_is_a_feature_where_the_option_says_so(
    name: str, broker: EmbeddedBroker, tmp_path: Path
) -> None:
    watched(broker, tmp_path, **(CARS | {name: ["x", "y", "x", "y"]}))
    (path := tmp_path / "log.csv").write_text(f"nr,{name},age,plan,at,prediction\n1,x,2,pro,1700000000,0.5\n")
    assert publish(broker, path, "--id", "nr", "--timestamp", "at") == 0
    [found] = published(broker)
    assert (found.model, found.version, found.id, found.timestamp) == ("churn", "v3", "1", 1_700_000_000)
    assert found.features == {name: "x", "age": 2.0, "plan": "pro"}


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_a_column_that_holds_just_the_name_given_is_no_feature(
    ending: str, broker: EmbeddedBroker, tmp_path: Path
) -> None:
    watched(broker, tmp_path)
    path = tmp_path / f"log{ending}"
    rows = {
        ".csv": "model,age,plan,prediction\nchurn,1,pro,0.5\n",
        ".jsonl": '{"model": "churn", "age": 1.0, "plan": "pro", "prediction": 0.5}\n',
    }
    path.write_text(rows[ending])
    assert publish(broker, path) == 0
    assert [each.features for each in published(broker)] == [{"age": 1.0, "plan": "pro"}]


def test_cells_are_read_as_the_baseline_has_them(broker: EmbeddedBroker, tmp_path: Path) -> None:
    """A file of one row would be read otherwise: "10" is a number by its look, and NA a text."""
    codes = CategoricalColumn(["007", "10", "3"], np.array([0, 1, 2, 0]))
    flags = CategoricalColumn(["false", "true"], np.array([0, 1, 0, 1]), boolean=True)
    ages = NumericColumn(np.array([1.0, 2.0, 3.0, np.nan]), markers=("", "-999"))
    watched(broker, tmp_path, code=codes, flag=flags, age=ages, prediction=[0.1, 0.2, 0.3, 0.4])
    path = tmp_path / "log.csv"
    path.write_text("code,flag,age,prediction,other\n10,True,-999,1,10\n007,0,NA,1,x\n3.0,maybe,old,1,\n")
    assert publish(broker, path) == 0
    found = published(broker)
    assert sorted((each.features for each in found), key=lambda each: str(each["code"])) == [
        {"code": "007", "flag": False, "age": None, "other": "x"},
        {"code": "10", "flag": True, "age": None, "other": 10.0},
        {"code": "3", "flag": "maybe", "age": "old", "other": None},
    ]


def test_values_of_parquet_go_as_they_are(broker: EmbeddedBroker, tmp_path: Path) -> None:
    watched(broker, tmp_path)
    path = tmp_path / "log.parquet"
    columns = (
        "TIMESTAMPTZ '2024-01-05 10:00:00+02' AS timestamp, 1.5::DECIMAL(9, 2) AS age, '49' AS text, true AS flag, "
        "'nan'::DOUBLE AS nan, 'inf'::DOUBLE AS inf, -999.0::DOUBLE AS sentinel, 2::HUGEINT ** 70 AS huge, "
        "DATE '2024-01-05' AS day, {'no': 0.25, 'yes': 0.75} AS prediction"
    )
    duckdb.execute(f"SET TimeZone = 'UTC'; COPY (SELECT {columns}) TO '{path}'")
    assert publish(broker, path, "--na", "-999") == 0
    [found] = published(broker)
    assert found.timestamp == "2024-01-05 08:00:00+00"
    assert found.prediction == {"no": 0.25, "yes": 0.75}
    assert found.features == {
        "age": 1.5,
        "text": "49",
        "flag": True,
        "nan": None,
        "inf": "Infinity",
        "sentinel": None,
        "huge": 2.0**70,
        "day": "2024-01-05",
    }


def test_disorder_is_told_and_sorted_on_request(
    broker: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watched(broker, tmp_path)
    times = np.random.default_rng(1).permutation(600).tolist()
    path = timed_rows(tmp_path / "log.csv", times)
    highest, late = 0, 0
    for time_s in times:  # by the definition: a window closes 10 s after its end has passed
        event_s = 1_700_000_000 + time_s
        late += event_s - event_s % 60 + 70 <= highest
        highest = max(highest, event_s)
    assert late > 100
    assert publish(broker, path, "--dry-run") == 0
    assert f"{late} records stand behind others" in capsys.readouterr().err
    assert publish(broker, path, "--sort") == 0
    assert "stand behind others" not in capsys.readouterr().err
    for partition, found in by_partition(broker).items():
        assert found == sorted(found), partition
    assert sum(map(len, by_partition(broker).values())) == 600


def test_times_before_those_of_the_topic_are_told(
    broker: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watched(broker, tmp_path)
    assert publish(broker, timed_rows(tmp_path / "new.csv", [7_200])) == 0
    capsys.readouterr()
    assert publish(broker, timed_rows(tmp_path / "old.csv", [0, 10, 7_200]), "--dry-run") == 0
    assert "2 records belong to windows that the topic has passed: its newest time is 2023-11-15T00:13:20Z" in (
        capsys.readouterr().err
    )


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


def test_a_file_that_is_not_there_is_named(
    broker: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(broker, tmp_path / "no.csv") == 2
    assert "no.csv: No such file" in capsys.readouterr().err
