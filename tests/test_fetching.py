from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.consumer import fetcher
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from driftline.streams.engine.dead_letters import dead_letter
from driftline.streams.formats.rejections import Rejection
from driftline.streams.formats.wire import Remains
from driftline.streams.kafka.fetching import POLL_BYTES, RESPONSE_BYTES, bounded
from tests.hostile import batch, bomb, resealed

LIMIT = 200_000
RECORD_LIMIT = 1_000
TP = TopicPartition("predictions", 3)
GOOD = [b"one", b"two", b"three"]


def bad_header() -> bytes:
    """Three records whose headers are no text."""
    return resealed(batch(GOOD, headers=[("name", b"")]).replace(b"name", b"\xff\xfe\xfd\xfc"))


def second_spoilt() -> bytes:
    """Three records of which the second one's header is no text."""
    raw = batch([b"one", b"two", b"three"], headers=[("name", b"")])
    place = raw.index(b"name", raw.index(b"two"))
    return resealed(raw[:place] + b"\xff" + raw[place + 1 :])


def wrong_checksum() -> bytes:
    raw = batch(GOOD)
    return raw[:-1] + bytes([raw[-1] ^ 1])


TOO_LARGE, CORRUPT = "batch_too_large", "batch_corrupt"
KINDS: dict[str, tuple[bytes, list[bytes | str]]] = {
    "plain": (batch(GOOD), [*GOOD]),
    "packed": (batch(GOOD, "zstd"), [*GOOD]),
    "gzip bomb": (bomb("gzip", 10 * LIMIT), [TOO_LARGE]),
    "zstd bomb": (bomb("zstd", 10 * LIMIT), [TOO_LARGE]),
    "many in one": (batch([bytes(1000)] * 300, "lz4"), [TOO_LARGE] * 300),
    "header": (bad_header(), [CORRUPT] * 3),
    "second header": (second_spoilt(), [b"one", CORRUPT, CORRUPT]),
    "checksum": (wrong_checksum(), [CORRUPT] * 3),
    "not zstd": (resealed(batch(GOOD), attributes=4), [CORRUPT] * 3),
    "no such codec": (resealed(batch(GOOD), attributes=7), [CORRUPT] * 3),
}
"""A batch, and per offset its value, or why it is rejected."""


def records_of(raw: bytes, offset: int) -> Any:
    """What aiokafka makes of fetched bytes, with checksums."""
    return fetcher.PartitionRecords(TP, MemoryRecords(raw), [], offset, None, None, True, 0)  # noqa: FBT003 - as aiokafka does


@dataclass
class Partition:
    """A partition's log as batches, and a consumer of it by aiokafka's own classes."""

    batches: list[bytes]

    def __post_init__(self) -> None:
        self.ends, at = [], 0
        for place, raw in enumerate(self.batches):
            delta = int.from_bytes(raw[23:27], "big")
            self.batches[place] = at.to_bytes(8, "big") + raw[8:]  # as the broker does; the checksum leaves it out
            at += delta + 1
            self.ends.append(at)

    def polls(self, start: int, most: int | None) -> list[Any]:
        """Everything from an offset on, poll by poll."""
        return asyncio.run(self._polls(start, most))

    async def _polls(self, start: int, most: int | None) -> list[Any]:
        subscriptions = SubscriptionState()  # wants a running loop
        subscriptions.assign_from_user([TP])
        assignment = subscriptions.subscription.assignment
        position = assignment.state_value(TP)
        position.seek(start)
        found, fetches = [], 0
        while position.position < self.ends[-1]:
            fetches += 1
            assert fetches < 10 + 3 * len(self.batches), f"stuck at offset {position.position}"
            raw = b"".join(each for each, end in zip(self.batches, self.ends, strict=True) if end > position.position)
            records = records_of(raw, position.position)
            fetched = fetcher.FetchResult(TP, assignment=assignment, partition_records=records, backoff=0)
            while fetched.has_more():
                found += [poll] if (poll := fetched.getall(most)) else []
        return found

    def read(self, start: int = 0, most: int | None = None) -> list[tuple[int, bytes | str]]:
        """Offset and value, or reason, of every record."""
        records = [record for poll in self.polls(start, most) for record in poll]
        return [(each.offset, each.value.reason if isinstance(each.value, Remains) else each.value) for each in records]


@given(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=6), st.data())
def test_every_offset_gives_one_record_whatever_lies_there_and_however_it_is_cut(
    kinds: list[str], data: st.DataObject
) -> None:
    wanted = list(enumerate([value for kind in kinds for value in KINDS[kind][1]]))
    start = data.draw(st.integers(0, len(wanted) - 1), label="start")
    most = data.draw(st.none() | st.integers(1, 400), label="most")
    log = Partition([KINDS[kind][0] for kind in kinds])
    with bounded(LIMIT, RECORD_LIMIT, 1):
        assert log.read(start, most) == wanted[start:]


@pytest.mark.parametrize("kind", sorted(kind for kind, (_, values) in KINDS.items() if CORRUPT in values))
def test_without_the_bounds_a_batch_that_can_not_be_read_is_raised_for_ever(kind: str) -> None:
    log = Partition([KINDS["plain"][0], KINDS[kind][0], KINDS["plain"][0]])
    for _ in range(3):
        with pytest.raises(Exception, match=r"CRC|decode|codec|rame"):
            log.read()


def test_without_the_bounds_a_bomb_is_unpacked() -> None:
    [(_, value)] = Partition([KINDS["gzip bomb"][0]]).read()
    assert len(value) == 10 * LIMIT


def test_a_checksum_that_was_wrong_once_only_costs_no_record() -> None:
    sound, spoilt = KINDS["plain"][0], KINDS["checksum"][0]
    log = Partition([sound, spoilt])
    with bounded(LIMIT, RECORD_LIMIT, 1):
        records = records_of(b"".join(log.batches), 0)
        assert [each.value for each in records] == GOOD  # ends before the spoilt one, which is fetched again
        log.batches[1] = log.batches[1][:-1] + sound[-1:]
        assert log.read(3) == list(enumerate(GOOD, 3))


def test_a_poll_tells_what_it_has_passed_over() -> None:
    marker = resealed(batch([b"end"]), attributes=0x30)  # of a transaction: no record for a consumer
    log = Partition([marker, batch(GOOD), marker, marker])
    with bounded(LIMIT, RECORD_LIMIT, 1):
        polls = log.polls(0, 2)
    assert [(poll.span, [record.offset for record in poll]) for poll in polls] == [
        (range(3), [1, 2]),
        (range(3, 6), [3]),
    ]


def test_a_poll_that_is_mostly_used_up_leaves_the_rest_of_a_batch_whole_to_the_next() -> None:
    log = Partition([batch(GOOD), batch(GOOD)])

    async def shares() -> list[int]:
        subscriptions = SubscriptionState()
        subscriptions.assign_from_user([TP])
        assignment = subscriptions.subscription.assignment
        assignment.state_value(TP).seek(0)
        records = records_of(b"".join(log.batches), 0)
        fetched = fetcher.FetchResult(TP, assignment=assignment, partition_records=records, backoff=0)
        return [len(fetched.getall(left)) for left in (3, 4, 3, 8)]

    with bounded(LIMIT, RECORD_LIMIT, 8):
        assert asyncio.run(shares()) == [0, 4, 0, 2]


def test_a_poll_ends_after_so_many_bytes_and_the_next_one_goes_on() -> None:
    values = [bytes([n]) * (POLL_BYTES // 4 + 1) for n in range(10)]
    with bounded(2**26, 2**20, 1):
        polls = Partition([batch(values, "gzip")]).polls(0, 4000)
    assert [len(poll) for poll in polls] == [4, 4, 2]
    assert [record.value for poll in polls for record in poll] == values


def test_headers_count_as_well() -> None:
    headers = [("name", bytes(POLL_BYTES // 2))]
    with bounded(2**26, 2**20, 1):
        polls = Partition([batch([b"value"] * 4, headers=headers)]).polls(0, 4000)
    assert [len(poll) for poll in polls] == [2, 2]


def test_of_a_giant_its_dead_letter_is_kept_and_nothing_else() -> None:
    giant = b"{}".ljust(POLL_BYTES + 1)
    with bounded(2**26, 2**20, 1):
        [[record], *_] = Partition([batch([giant], headers=[("name", b"text")])]).polls(0, 4000)
    assert (record.value, record.key, record.headers) == (b"", None, ())
    letter = dead_letter(record, Rejection(record.offset, record.value.reason))
    headers = {"reason": b"too_large", "topic": b"predictions", "partition": b"3", "offset": b"0"}
    assert dict(letter.headers) == headers | {"size": b"%d" % len(giant)}
    assert letter.value == giant[:1_000_000]


def test_a_longer_record_is_whole_where_the_configuration_allows_it() -> None:
    value = bytes(POLL_BYTES + 1)
    with bounded(2**26, 2 * POLL_BYTES, 1):
        assert Partition([batch([value])]).read() == [(0, value)]


MEGABYTE = 2**20


async def largest_response(bootstrap: str, topic: str) -> tuple[int, int]:
    """Read a topic of twelve megabytes on four partitions; return the most bytes of one response, and the records."""
    places = [TopicPartition(topic, partition) for partition in range(4)]
    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap, max_partition_fetch_bytes=4 * MEGABYTE)
    await reader.start()
    try:
        send, sizes, found = reader._client.send, [0], 0

        async def measured(node: int, request: Any, **options: Any) -> Any:
            response = await send(node, request, **options)
            if "Fetch" in type(response).__name__:
                sizes.append(sum(len(part[-1] or b"") for _, parts in response.topics for part in parts))
            return response

        reader._client.send = measured
        reader.assign(places)
        for place in places:
            reader.seek(place, 0)
        while found < 4 * 6:
            found += sum(map(len, (await reader.getmany(timeout_ms=1000)).values()))
        return max(sizes), found
    finally:
        await reader.stop()


async def fill(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 4, 1)])
    finally:
        await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        for partition in range(4):
            for _ in range(6):
                await producer.send_and_wait(topic, bytes(MEGABYTE // 2), partition=partition)
    finally:
        await producer.stop()


@pytest.mark.kafka
def test_no_response_holds_more_than_its_bound_and_everything_is_read(kafka: str) -> None:
    asyncio.run(fill(kafka, "fetching-bounded"))
    freely, found = asyncio.run(largest_response(kafka, "fetching-bounded"))
    assert freely > RESPONSE_BYTES
    assert found == 24
    with bounded(2**26, MEGABYTE, 10_000):
        most, found = asyncio.run(largest_response(kafka, "fetching-bounded"))
    assert 0 < most <= RESPONSE_BYTES
    assert found == 24
