"""A worker on a real Kafka among what must not end it: bombs, giants, headers that are no text."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from prometheus_client.parser import text_string_to_metric_families

from driftline.detectors.baselines.fit import fit
from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import plan_from
from driftline.streams.formats.wire import Remains
from driftline.streams.kafka.connection import opened
from driftline.streams.kafka.topics import STAMPED, create_topics
from tests.fleet import Workers, expected, logged, outcome_on, publish, settings_for, states_saved, verdicts_complete
from tests.hostile import NOW_MS, batch, bomb, resealed, write
from tests.memory_broker import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from driftline.detectors.documents.baseline import Baseline
    from driftline.streams.config.settings import Settings

BOMB_BYTES = 300_000_000
YEAR_MS = 365 * 86_400_000
MIB = 2**20
PLAN = {"window_ms": 10_000, "lateness_ms": 0, "min_rows": 10}


def baseline() -> Baseline:
    ages = [float(age % 50) for age in range(500)]
    return fit("churn", "1", {"age": ages, "prediction": [age / 50 for age in ages]})


def prediction(event_ms: int, age: float = 20.0) -> bytes:
    document = {"model": "churn", "version": "1", "features": {"age": age}, "prediction": 0.4, "timestamp": event_ms}
    return orjson.dumps(document)


def good(window: int) -> list[bytes]:
    """A window's records, the last of which closes the one before."""
    return [prediction(NOW_MS + window * 10_000 + row * 100, float(row % 50)) for row in range(50)]


def highest_rss_bytes(pid: int) -> int:
    [kib] = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    return int(kib) * 1024


async def make_topics(settings: Settings) -> None:
    """With predictions of up to 16 MiB, as somebody may have allowed."""
    large = NewTopic(settings.topics.predictions, 1, 1, topic_configs=STAMPED | {"max.message.bytes": str(2**24)})
    async with opened(AIOKafkaAdminClient, settings.kafka) as admin:
        await admin.create_topics([large])
    await create_topics(settings, 1)


def scraped(config: Path) -> dict[tuple[str, ...], float]:
    """Name and labels of every sample of the worker that was started last."""
    [*_, port] = re.findall(r"metrics on http://127.0.0.1:(\d+)", logged(config))
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
    samples = [sample for family in families for sample in family.samples]
    return {(each.name, *sorted(each.labels.values())): each.value for each in samples}


async def write_in_transactions(settings: Settings, *transactions: Sequence[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers, transactional_id="hostile")
    await producer.start()
    for values in transactions:
        async with producer.transaction():
            for value in values:
                await producer.send(settings.topics.predictions, value, partition=0, timestamp_ms=NOW_MS)
    await producer.stop()


async def nothing_left(config: Path, topics: Sequence[str], within_s: float) -> None:
    """Wait until the worker has no lag on these topics."""
    async with asyncio.timeout(within_s):
        while any(scraped(config)["driftline_consumer_lag_records", "0", topic] for topic in topics):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.2)


@pytest.mark.kafka
def test_a_worker_outlives_bombs_and_giants_and_counts_all_that_can_be_read(kafka: str, tmp_path: Path) -> None:
    settings, config = settings_for(kafka, "hostile", tmp_path, **PLAN)
    topics = settings.topics
    first, unreadable, last, more = (good(window) for window in range(4))
    bad_headers = resealed(batch(unreadable, headers=[("name", b"")]).replace(b"name", b"\xff\xfe\xfd\xfc"))
    giant = prediction(NOW_MS).ljust(10 * MIB)  # sound JSON, if only its beginning is read
    too_large, corrupt = Remains("batch_too_large"), Remains("batch_corrupt")
    gzip_bomb, zstd_bomb = bomb("gzip", BOMB_BYTES), bomb("zstd", BOMB_BYTES)
    values = [*first, too_large, too_large, giant, *[corrupt] * 50, *last, too_large, *more]
    log = [Record(topics.predictions, 0, offset, NOW_MS + YEAR_MS, value) for offset, value in enumerate(values)]
    end = len(log) - len(more)
    wanted = expected(Watch(plan_from(PLAN)).with_baseline(baseline()), [log])
    wanted_before = expected(Watch(plan_from(PLAN)).with_baseline(baseline()), [log[:end]])

    asyncio.run(make_topics(settings))
    asyncio.run(publish(settings, [baseline()], [log[: len(first)]]))
    with Workers(config) as fleet:
        worker = fleet.start()
        asyncio.run(states_saved(settings, {0: len(first)}, within_s=60))
        before = highest_rss_bytes(worker.pid)
        hostile = gzip_bomb, zstd_bomb, batch([giant]), bad_headers, batch(last, "lz4"), gzip_bomb
        asyncio.run(write(settings, topics.predictions, *hostile))
        asyncio.run(write(settings, topics.partials, zstd_bomb))
        asyncio.run(write(settings, topics.baselines, zstd_bomb))
        asyncio.run(states_saved(settings, {0: end}, within_s=60))
        asyncio.run(verdicts_complete(settings, wanted_before, within_s=60))
        asyncio.run(nothing_left(config, [topics.predictions, topics.partials], within_s=60))
        grown, counted = highest_rss_bytes(worker.pid) - before, scraped(config)
        assert fleet.stop() == [0]
        fleet.start()
        asyncio.run(publish(settings, [], [log[end:]]))
        asyncio.run(states_saved(settings, {0: len(log)}, within_s=60))
        asyncio.run(verdicts_complete(settings, wanted, within_s=60))
        assert fleet.stop() == [0]
    found, told = asyncio.run(outcome_on(settings)), logged(config)
    assert (found.verdicts, found.alerts, found.states) == (wanted.verdicts, wanted.alerts, wanted.states)
    assert grown <= 128 * MIB
    rejected = {key[1]: n for key, n in counted.items() if key[0] == "driftline_records_rejected_total"}
    assert rejected == {"batch_too_large": 3, "batch_corrupt": 50, "too_large": 1}
    results = {key[1]: n for key, n in counted.items() if key[0] == "driftline_records_total"}
    assert sum(results.values()) == counted[("driftline_records_in_total",)]
    assert sum(results.values()) - results["replay_skipped"] == end  # a seek may have brought some twice
    assert counted[("driftline_refused_baselines_total",)] == 1
    assert all(f"{topic}[0]: offsets " in told for topic in (topics.partials, topics.baselines))
    *_, first_life, second_life = told.split("metrics on")
    refused = rf"{topics.predictions}\[0\]: offsets (\d+) to (\d+) are rejected"
    assert set(re.findall(refused, first_life)) == {("50", "50"), ("51", "51"), ("53", "102"), ("153", "153")}
    assert not re.findall(refused, second_life)  # the state lies behind them


@pytest.mark.kafka
def test_a_log_that_ends_with_a_transaction_is_read_to_its_end(kafka: str, tmp_path: Path) -> None:
    settings, config = settings_for(kafka, "transactions", tmp_path, **PLAN)
    asyncio.run(create_topics(settings, 1))
    asyncio.run(publish(settings, [baseline()], []))
    asyncio.run(write_in_transactions(settings, good(0), good(1)))
    with Workers(config) as fleet:
        fleet.start()
        # Fifty records and a marker, twice. A worker that waits for a record where the last marker is never saves 102.
        asyncio.run(states_saved(settings, {0: 102}, within_s=60))
        asyncio.run(nothing_left(config, [settings.topics.predictions], within_s=60))
        counted = scraped(config)
        assert fleet.stop() == [0]
    assert counted["driftline_records_total", "accepted"] == 100
    assert "sought" not in logged(config)
