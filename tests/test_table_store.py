"""The offsets that a worker commits, while Kafka answers and while it does not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError
from hypothesis import given
from hypothesis import strategies as st

from driftline.streams.kafka.recreated import Lookup
from driftline.streams.observability.metrics import Metrics
from driftline.streams.worker import table_store
from driftline.streams.worker.table_store import Slot, TableStore
from tests.memory_broker import Broker, MemorySink, Session
from tests.pump_bench import in_a_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


def store_on(answer: Callable[[], Coroutine[None, None, None]], asked: list[tuple[str, int, int]]) -> TableStore:
    """A store whose consumer notes what it is asked to commit, and answers so."""

    async def commit(offsets: dict[tuple[str, int], SimpleNamespace]) -> None:
        asked.extend((*place, told.offset) for place, told in offsets.items())
        await answer()

    thread = SimpleNamespace(_consumer=SimpleNamespace(commit=commit), thread_loop=asyncio.get_running_loop())
    app = SimpleNamespace(consumer=SimpleNamespace(_thread=thread))
    return TableStore(
        app, "predictions", None, MemorySink(Session(Broker({}))), Lookup(None, Metrics("0").contradictions)
    )


async def taken() -> None:
    pass


async def refused() -> None:
    raise CommitFailedError("the group has rebalanced")


@in_a_loop
async def test_a_commit_is_taken_or_refused() -> None:
    asked: list[tuple[str, int, int]] = []
    assert await store_on(taken, asked).commit(3, 7)
    assert not await store_on(refused, asked).commit(4, 8)
    assert asked == [("predictions", 3, 7), ("predictions", 4, 8)]


@in_a_loop
async def test_a_commit_that_hangs_is_given_up_and_holds_no_other_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_store, "COMMIT_TIMEOUT_S", 0.05)
    asked: list[tuple[str, int, int]] = []
    first, answers = asyncio.Event(), asyncio.Event()

    async def only_later() -> None:
        if first.is_set():
            return
        first.set()
        await answers.wait()

    store = store_on(only_later, asked)
    hanging = asyncio.create_task(store.commit(0, 7))
    await first.wait()
    assert await store.commit(1, 8)
    assert not await hanging


@in_a_loop
async def test_ends_are_asked_for_anew_and_left_out_where_no_broker_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_store, "ENDS_TIMEOUT_S", 0.05)
    ends = {TopicPartition("predictions", 3): 7}
    is_away = False

    async def end_offsets(places: list[TopicPartition]) -> dict[TopicPartition, int]:
        if is_away:
            await asyncio.Event().wait()
        return {place: ends[place] for place in places}

    thread = SimpleNamespace(_consumer=SimpleNamespace(end_offsets=end_offsets), thread_loop=asyncio.get_running_loop())
    app = SimpleNamespace(consumer=SimpleNamespace(_thread=thread))
    store = TableStore(
        app, "predictions", None, MemorySink(Session(Broker({}))), Lookup(None, Metrics("0").contradictions)
    )
    assert await store.ends([3]) == {3: 7}
    ends[TopicPartition("predictions", 3)] = 9
    assert await store.ends([3]) == {3: 9}
    is_away = True
    assert await store.ends([3]) == {}


@in_a_loop
async def test_what_is_not_assigned_any_more_has_neither_position_nor_end() -> None:
    consumer, mine, lost = AIOKafkaConsumer(), TopicPartition("predictions", 0), TopicPartition("predictions", 1)
    consumer.assign([mine])
    app = SimpleNamespace(consumer=SimpleNamespace(_thread=SimpleNamespace(_consumer=consumer)))
    store = TableStore(
        app, "predictions", None, MemorySink(Session(Broker({}))), Lookup(None, Metrics("0").contradictions)
    )
    with pytest.raises(AssertionError, match="not assigned"):
        consumer.highwater(lost)  # aiokafka's own question ends whoever asks in the middle of a rebalance
    assert (store.position(1), store.end(1)) == (0, None)
    assert (store.position(0), store.end(0)) == (0, None)

    read = consumer._subscription.subscription.assignment.state_value(mine)
    read.seek(7)
    read.highwater = 9
    assert (store.position(0), store.end(0)) == (7, 9)
    consumer.unsubscribe()
    assert (store.position(0), store.end(0)) == (0, None)
    await consumer.stop()


@given(st.lists(st.binary(max_size=300), min_size=1))
def test_a_slot_holds_the_last_value_whatever_was_there_before(values: list[bytes]) -> None:
    slot = Slot(values[0])
    for value in values[1:]:
        slot.write(value)
    assert bytes(slot) == values[-1]
    assert len(slot) == len(values[-1])


@in_a_loop
async def test_what_was_saved_is_loaded_over_what_the_changelog_gave_back() -> None:
    table = SimpleNamespace(name="state", data={b"3/a": b"old", b"3/b": b"kept", b"31/a": b"another's"})
    broker = Broker({"state": 32})
    store = TableStore(
        None, "predictions", table, MemorySink(Session(broker)), Lookup(None, Metrics("0").contradictions)
    )
    for newer in (b"new", b"newer than that", b"newest"):
        await store.save(3, [(b"a", newer), (b"c", newer), (b"", b"own")])
    await store.save(3, [(b"c", b"")])
    assert store.load(3) == {b"a": b"newest", b"b": b"kept", b"": b"own"}
    table.data[b"3/a"] = b"another worker's"  # as Faust restores it
    assert store.load(3)[b"a"] == b"another worker's"
    await store.save(3, [(b"a", b"ours again")])
    assert store.load(3)[b"a"] == b"ours again"
    assert store.load(31) == {b"a": b"another's"}
