from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

import driftline
from driftline import AlertSubscriber, PredictionLogger
from driftline.detectors.documents.alerts import Alert, Window
from driftline.detectors.documents.baseline import Baseline
from driftline.detectors.documents.predictions import Prediction
from driftline.streams.client.client import MAX_RECORD_BYTES
from driftline.streams.config.settings import Kafka
from driftline.streams.demo.embedded import EmbeddedBroker, embedded_broker
from driftline.streams.kafka.connection import KafkaUnreachable, opened
from driftline.streams.kafka.outbox import PRODUCER, Outbox

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with embedded_broker({"predictions": 4, "alerts": 1}) as running:
        yield running


async def logged(broker: EmbeddedBroker) -> dict[bytes, tuple[int, Any]]:
    """Key to partition and document of everything in the predictions topic."""
    partitions = [TopicPartition("predictions", number) for number in range(4)]
    async with opened(AIOKafkaConsumer, Kafka(bootstrap_servers=broker.bootstrap_servers)) as consumer:
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(partitions)
        found: dict[bytes, tuple[int, Any]] = {}
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found |= {record.key: (record.partition, orjson.loads(record.value)) for record in records}
    return found


@pytest.mark.embedded
def test_a_logged_prediction_is_what_a_worker_reads(broker: EmbeddedBroker) -> None:
    async def scenario() -> None:
        async with PredictionLogger(broker.bootstrap_servers) as logger:
            identifier = await logger.log(
                model="churn",
                version="v3",
                features={
                    "age": np.int64(41),
                    "income": np.float32(0.5),
                    "plan": "basic",
                    "note": None,
                    "ratio": np.nan,
                },
                prediction={"stay": 0.75, "go": 0.25},
                id=17,
                timestamp=datetime(2025, 1, 6, tzinfo=UTC),
                latency_ms=3.5,
                segment={"country": "CH"},
            )
            assert logger.acknowledged == 1
        assert identifier == "17"
        ((key, (_, document)),) = (await logged(broker)).items()
        assert key == b"17"
        assert document == {
            "model": "churn",
            "version": "v3",
            "features": {"age": 41, "income": 0.5, "plan": "basic", "note": None, "ratio": None},
            "prediction": {"stay": 0.75, "go": 0.25},
            "id": "17",
            "timestamp": "2025-01-06T00:00:00+00:00",
            "latency_ms": 3.5,
            "segment": {"country": "CH"},
        }
        assert msgspec.json.decode(orjson.dumps(document), type=Prediction).model == "churn"

    asyncio.run(scenario())


@pytest.mark.embedded
def test_predictions_spread_over_the_partitions_and_get_ids(broker: EmbeddedBroker) -> None:
    async def scenario() -> None:
        async with PredictionLogger(broker.bootstrap_servers) as logger:
            sent = {await logger.send(model="m", version="v", features={}, prediction=None) for _ in range(200)}
            await logger.flush()
            assert (logger.acknowledged, logger.failed) == (200, 0)
        found = await logged(broker)
        assert {key.decode() for key in found} == sent
        assert {document["id"] for _, document in found.values()} == sent
        assert {partition for partition, _ in found.values()} == {0, 1, 2, 3}

    asyncio.run(scenario())


@pytest.mark.embedded
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"features": [1, 2]}, "prediction 1: .*features: found a list of 2: wanted an object"),
        ({"prediction": [0.2, 0.8]}, "prediction 1: .*prediction: found a list of 2: wanted a number"),
        ({"model": None}, "prediction 1: missing_field: model"),
        ({"version": ""}, "prediction 1: bad_name: version"),
        ({"timestamp": "01/02/2024"}, "prediction 1: bad_timestamp: timestamp: .*the year first"),
        ({"timestamp": datetime(2025, 1, 6)}, "has no time zone"),  # noqa: DTZ001 - that is the fault
        ({"features": {"note": "x" * MAX_RECORD_BYTES}}, r"prediction 1: too_large: .*worker\.max_record_bytes"),
        ({"colour": "red"}, "a prediction has no colour"),
    ],
)
def test_what_a_worker_would_refuse_is_refused_here(
    broker: EmbeddedBroker, fields: dict[str, Any], message: str
) -> None:
    async def scenario() -> None:
        whole: Any = {"model": "m", "version": "v", "features": {}, "prediction": 1.0, "id": "1"} | fields
        async with PredictionLogger(broker.bootstrap_servers) as logger:
            with pytest.raises(ValueError, match=message):
                await logger.log(**whole)
            assert (logger.acknowledged, logger.failed) == (0, 0)

    asyncio.run(scenario())


@pytest.mark.embedded
def test_a_lost_prediction_surfaces_where_it_was_logged(
    broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with PredictionLogger(broker.bootstrap_servers) as logger:
            await logger.log(model="m", version="v", features={}, prediction=1.0)
            broker.set_down(1)
            with pytest.raises(KafkaUnreachable, match="--bootstrap-servers"):
                await logger.log(model="m", version="v", features={}, prediction=1.0)
            assert (logger.acknowledged, logger.failed) == (1, 1)
            broker.set_up(1)
            await logger.log(model="m", version="v", features={}, prediction=1.0)
            assert (logger.acknowledged, logger.failed) == (2, 1)

    monkeypatch.setitem(PRODUCER, "request_timeout_ms", 500)
    asyncio.run(scenario())


def alert(number: int) -> Alert:
    return Alert(
        state="event",
        kind="outlier",
        severity="info",
        model="m",
        version="v",
        signal="",
        detector="half_space_trees",
        value=0.9,
        threshold=0.8,
        n=1,
        window=Window(number, number + 1),
        time_ms=number,
        baseline="b",
        plan="p",
        summary=f"Record {number}.",
    ).identified()


@pytest.mark.embedded
def test_a_subscriber_gets_new_alerts_and_old_ones_when_asked(broker: EmbeddedBroker) -> None:
    async def publish(*alerts: Alert) -> None:
        async with Outbox(Kafka(bootstrap_servers=broker.bootstrap_servers), "alerts") as outbox:
            for each in alerts:
                await outbox.send(msgspec.json.encode(each), each.fingerprint.encode())

    async def scenario() -> None:
        await publish(alert(1), alert(2))
        async with AlertSubscriber(broker.bootstrap_servers) as new:
            await publish(alert(3))
            async for first in new:
                assert first == alert(3)
                break
        async with AlertSubscriber(broker.bootstrap_servers, start="beginning", stop="end") as every:
            assert [each async for each in every] == [alert(1), alert(2), alert(3)]

    asyncio.run(scenario())


def test_the_public_face() -> None:
    assert driftline.Baseline is Baseline
    assert driftline.__version__.split(".")[0].isdigit()
    assert all(hasattr(driftline, name) for name in driftline.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Baselin'"):
        driftline.Baselin  # noqa: B018


def test_the_public_face_brings_neither_faust_nor_river_nor_scipy() -> None:
    program = """if True:
        import sys, driftline
        assert "aiokafka" not in sys.modules
        driftline.PredictionLogger, driftline.AlertSubscriber, driftline.Baseline
        print([name for name in ("faust", "river", "scipy") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
