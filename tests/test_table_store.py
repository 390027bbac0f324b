"""The offsets that a worker commits, while Kafka answers and while it does not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from driftline.streams import table_store
from driftline.streams.memory import Broker, MemorySink, Session
from driftline.streams.table_store import TableStore
from tests.pump_bench import in_a_loop


class Thread:
    """The consumer's thread, as far as commits reach it; it answers only while it is told to."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.asked: list[dict[object, int]] = []
        self.under_way = self.most = 0

    async def _commit(self, offsets: dict[object, int]) -> bool:
        self.asked.append(offsets)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.answers.wait()
        self.under_way -= 1
        return True


@pytest.fixture
def thread() -> Thread:
    return Thread()


@pytest.fixture
def store(thread: Thread) -> TableStore:
    return TableStore(SimpleNamespace(consumer=thread), "predictions", None, MemorySink(Session(Broker({}))))


@in_a_loop
async def test_commits_of_several_partitions_wait_for_one_another(thread: Thread, store: TableStore) -> None:
    thread.answers.set()
    assert await asyncio.gather(*(store.commit(partition, 7) for partition in range(3))) == [True] * 3
    assert thread.asked == [{("predictions", partition): 7} for partition in range(3)]
    assert thread.most == 1


@in_a_loop
async def test_while_a_commit_hangs_no_other_takes_up_the_consumers_thread(
    thread: Thread, store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_store, "COMMIT_TIMEOUT_S", 0.01)
    assert [await store.commit(partition, 7) for partition in range(3)] == [False] * 3
    assert thread.asked == [{("predictions", 0): 7}]
    thread.answers.set()
    await asyncio.sleep(0)
    assert await store.commit(1, 8)
    assert thread.asked[1:] == [{("predictions", 1): 8}]
