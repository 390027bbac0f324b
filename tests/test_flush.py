"""A file of which nothing follows: its last windows become final by flush marks, live, after crashes and in a replay."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.detectors.plan import Plan
from driftline.streams.cli.publish import publish_all
from driftline.streams.client.flush import Latest
from driftline.streams.config.settings import Kafka, Settings
from driftline.streams.demo.embedded import embedded_broker
from driftline.streams.formats.flush_mark import FlushMark, flush_of
from tests.fleet import records_on
from tests.logs import MINUTE_MS, START_MS, plain, sample, watching
from tests.memory_broker import Record
from tests.simulator import STAGES, Rehearsal, Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulator import Outcome

PARTITIONS = 3
N = 600
LAST_MS = START_MS + N * 500
APPENDED_MS = LAST_MS + 10**9
"""When the file was published: all at once, long after."""


def documents() -> list[dict[str, Any]]:
    """A file of five minutes."""
    return [
        msgspec.to_builtins(each) | {"timestamp": START_MS + row * 500, "id": row}
        for row, each in enumerate(sample(N, 1))
    ]


def rehearsal(*, flushed: bool, by_broker: bool) -> Rehearsal:
    """The file on a broker in memory, its records spread over all partitions but one."""
    found = Rehearsal(watching(Plan(min_rows=20), plain()), dict.fromkeys(STAGES, PARTITIONS))
    latest = Latest(0)
    for row, document in enumerate(latest.passing(documents())):
        value = msgspec.json.encode(document)
        found.broker.publish("predictions", row % (PARTITIONS - 1), [(value, APPENDED_MS)], by_broker=by_broker)
    if flushed:
        mark = msgspec.json.encode(FlushMark(latest.event_ms))
        for partition in range(PARTITIONS):
            found.broker.publish("predictions", partition, [(mark, APPENDED_MS)], by_broker=by_broker)
    return found


def judged(outcome: Outcome) -> dict[int, int]:
    """Records of every final window, by its minute."""
    found = [msgspec.json.decode(document) for documents in outcome.verdicts.values() for document in documents]
    return {(each["window"]["start_ms"] - START_MS) // MINUTE_MS: each["n"] for each in found}


@pytest.mark.parametrize("by_broker", [True, False])
def test_every_window_of_a_file_becomes_final_by_flush_marks_and_the_last_one_not_without(
    by_broker: bool,  # noqa: FBT001 - a parameter
) -> None:
    flushed = rehearsal(flushed=True, by_broker=by_broker)
    assert judged(asyncio.run(flushed.run([]))) == dict.fromkeys(range(5), 120)
    tally = flushed.tally()
    assert (tally["accepted"], tally["flush_mark"], tally["in"]) == (N, PARTITIONS, N + PARTITIONS)
    assert flushed.broker.records("dead_letters") == []
    assert 4 not in judged(asyncio.run(rehearsal(flushed=False, by_broker=by_broker).run([])))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(
            Turn,
            st.sampled_from(["poll", "poll", "save", "crash", "repeat", "revoke", "freeze", "thaw"]),
            st.sampled_from([(topic, partition) for topic in STAGES for partition in range(PARTITIONS)]),
            st.integers(0, 400),
        ),
        max_size=25,
    )
)
def test_whatever_happens_meanwhile_a_flushed_file_is_judged_alike(schedule: Sequence[Turn]) -> None:
    found = asyncio.run(rehearsal(flushed=True, by_broker=True).run(schedule))
    assert found == asyncio.run(rehearsal(flushed=True, by_broker=True).run([]))


@pytest.mark.parametrize(
    "value",
    [
        b'{"driftline": "flush"}',
        b'{"driftline": "flush", "event_ms": -1}',
        b'{"driftline": "flush", "event_ms": 1e300}',
        b'{"driftline": "flush", "event_ms": 100000000000000}',
        b'{"driftline": "flush", "event_ms": "2024-01-01"}',
        b'{"driftline": "flush", "event_ms": 1, "model": "m"}',
        b'{"driftline": "\xffflush", "event_ms": 1}',
        b'{"driftline": "close", "event_ms": 1}',
        b'{"model": "flush"}',
        None,
    ],
)
def test_what_merely_looks_like_a_flush_mark_is_none(value: bytes | None) -> None:
    assert flush_of(Record("predictions", 0, 0, 0, value)) is None


def test_a_file_without_times_is_flushed_up_to_now() -> None:
    latest = Latest(60_000)
    assert latest.event_ms == 0
    assert len(list(latest.passing([{"prediction": 1}] * 1200))) == 1200
    assert latest.event_ms > APPENDED_MS


@pytest.mark.embedded
def test_publishing_writes_one_flush_mark_to_every_partition_behind_all_records() -> None:
    with embedded_broker({"predictions": PARTITIONS}) as broker:
        published = Settings(kafka=Kafka(bootstrap_servers=broker.bootstrap_servers))
        assert asyncio.run(publish_all(published, documents(), None, is_last=True)) == N

        async def read() -> list[Any]:
            return [record async for record in records_on(published, "predictions")]

        found = asyncio.run(read())
    assert len(found) == N + PARTITIONS
    marks = {record.partition: record.offset for record in found if flush_of(record)}
    assert marks == {
        place: max(each.offset for each in found if each.partition == place) for place in range(PARTITIONS)
    }
    assert {flush.event_ms for record in found if (flush := flush_of(record))} == {LAST_MS - 500}
