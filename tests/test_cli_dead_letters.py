from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer

from driftline.detectors.documents.partials import Mark
from driftline.streams.cli.main import run
from driftline.streams.client.resending import Resending, Sent
from driftline.streams.config.settings import Kafka, Settings
from driftline.streams.demo.embedded import EmbeddedBroker, embedded_broker
from driftline.streams.engine.dead_letters import dead_letter
from driftline.streams.formats.letters import RESENT_FROM
from driftline.streams.formats.rejections import Rejection
from driftline.streams.formats.wire import mark_records
from driftline.streams.kafka.reader import RecordReader
from tests.memory_broker import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE_MS = 60_000


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with embedded_broker({"predictions": 2, "partials": 2, "dead-letters": 2}) as running:
        yield running


def settings(broker: EmbeddedBroker) -> Settings:
    return Settings(kafka=Kafka(bootstrap_servers=broker.bootstrap_servers))


def value(row: int) -> bytes:
    """A prediction of minute `row`; each third one is cut in two."""
    whole = json.dumps({"model": "churn", "version": "9", "timestamp": row * MINUTE_MS + 10**12, "features": {}})
    return (whole if row % 3 else whole[:20]).encode()


async def reject(kafka: Kafka, n: int, closed_minutes: int | None = None, *, originals: bool = True) -> None:
    """Publish predictions with keys and headers, and their dead letters; with marks that have closed some minutes."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    await producer.start()
    for row in range(n):
        place = 1, row
        if originals:
            sent = await producer.send_and_wait(
                "predictions", value(row), key=b"key %d" % row, headers=[("trace", b"%d" % row)]
            )
            place = sent.partition, sent.offset
        letter = dead_letter(
            Record("predictions", *place, 0, value(row)),
            Rejection(place[1], "unknown_model")
            if row % 3
            else Rejection(place[1], "invalid_json", "model", wanted="text"),
        )
        await producer.send_and_wait("dead-letters", letter.value, headers=list(letter.headers))
    if closed_minutes is not None:
        for record in mark_records(Mark(0, 2, 10**12 + closed_minutes * MINUTE_MS), 2):
            await producer.send_and_wait("partials", record.value, partition=record.partition)
    await producer.stop()


async def resent(kafka: Kafka) -> list[Any]:
    """Predictions that were dead letters."""
    async with RecordReader(kafka, "predictions", "beginning", "end") as reader:
        return [record async for record in reader if RESENT_FROM in dict(record.headers)]


@pytest.mark.embedded
def test_letters_are_listed_and_counted_by_reason_and_field(
    broker: EmbeddedBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(reject(settings(broker).kafka, 9))
    here = ["--bootstrap-servers", broker.bootstrap_servers]
    assert run(["dead-letters", "--from-beginning", *here]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 9
    assert sum("invalid_json  model: wanted text" in line for line in lines) == 3
    assert sum(line.startswith('    {"model": "churn", "version": "9"') for line in lines) == 6
    assert run(["dead-letters", "--summary", *here]) == 0
    counted = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert counted == [
        ["COUNT", "REASON", "FIELD", "WANTED"],
        ["6", "unknown_model"],
        ["3", "invalid_json", "model", "text"],
    ]
    assert run(["dead-letters", "--resend", "--reason", "unknown_modell", *here]) == 2
    assert "'unknown_modell' is not one of" in capsys.readouterr().err
    assert run(["dead-letters", "--json", "--reason", "invalid_json", "--from-beginning", *here]) == 0
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["reason"], each["field"], each["value"]) for each in documents] == [
        ("invalid_json", "model", '{"model": "churn", "')
    ] * 3


@pytest.mark.embedded
def test_resent_letters_keep_key_and_headers_and_none_goes_twice(
    broker: EmbeddedBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    kafka = settings(broker).kafka
    asyncio.run(reject(kafka, 9, closed_minutes=5))
    command = [
        "dead-letters",
        "--resend",
        "--reason",
        "unknown_model",
        "--yes",
        "--bootstrap-servers",
        broker.bootstrap_servers,
    ]
    assert run(command) == 0
    said = capsys.readouterr().out
    assert "6 dead letters can be sent" in said
    assert "3 of them are of windows that are closed" in said  # minutes 1, 2 and 4 of the five that are closed
    wanted = {(value(row), b"key %d" % row, b"%d" % row) for row in range(9) if row % 3}
    found = asyncio.run(resent(kafka))
    assert {(each.value, each.key, dict(each.headers)["trace"]) for each in found} == wanted
    assert len(found) == 6
    assert run(command) == 0
    assert "0 dead letters can be sent" in capsys.readouterr().out
    assert len(asyncio.run(resent(kafka))) == 6
    assert run(["dead-letters", "--summary", "--bootstrap-servers", broker.bootstrap_servers]) == 0
    assert "6      unknown_model" in capsys.readouterr().out  # the books are no letters


@pytest.mark.embedded
def test_nobody_is_sent_without_an_answer(
    broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(reject(settings(broker).kafka, 3))
    command = ["dead-letters", "--resend", "--bootstrap-servers", broker.bootstrap_servers]
    for answer in ("", "n\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        assert run(command) == 2
        assert "nothing was done" in capsys.readouterr().err
    assert asyncio.run(resent(settings(broker).kafka)) == []
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert run(command) == 0
    assert len(asyncio.run(resent(settings(broker).kafka))) == 3


class Interrupted(Exception):  # noqa: N818 - what happened
    """A resending that ends in the middle."""


class Forgetful(Resending):
    """Ends before it notes what it has sent: or, as many entries later."""

    left = 2

    async def _note(self, producer: Any, entry: Any) -> None:
        if isinstance(entry, Sent) and entry.places:
            self.left -= 1
            if self.left < 0:
                raise Interrupted
        await super()._note(producer, entry)


@pytest.mark.embedded
@pytest.mark.parametrize("noted", [0, 1])
def test_a_resending_that_was_interrupted_is_made_up_for_whenever_that_was(
    broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, noted: int
) -> None:
    monkeypatch.setattr("driftline.streams.client.resending.CHUNK", 2)
    monkeypatch.setattr(Forgetful, "left", noted)

    async def attempt(kind: type[Resending]) -> None:
        resending = kind(settings(broker))
        await resending.send(await resending.look())

    kafka = settings(broker).kafka
    asyncio.run(reject(kafka, 7, originals=False))
    with pytest.raises(Interrupted):
        asyncio.run(attempt(Forgetful))
    assert len(asyncio.run(resent(kafka))) == 2 * (noted + 1)  # some are sent, and not all of them noted
    for _ in range(3):
        asyncio.run(attempt(Resending))
    sources = Counter(dict(each.headers)[RESENT_FROM] for each in asyncio.run(resent(kafka)))
    assert len(sources) == 7
    assert set(sources.values()) == {1}
