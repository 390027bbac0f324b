"""A worker that has been tampered with: ``python -m tests.chaos_worker NAME [arguments of driftline]``.

Either a safeguard is taken out, to show that the suite would notice, or a part is made to stand still once
``STILL_AFTER`` records are in, to show that the watchdog does. When it happens, ``MARK`` is written to standard error.
"""

from __future__ import annotations

import asyncio
import sys
import time
from itertools import count
from typing import TYPE_CHECKING, Any

from aiokafka.consumer.fetcher import Fetcher

from driftline.streams.cli import main
from driftline.streams.engine.profiling_stage import ProfilingStage
from driftline.streams.engine.pump import Pump
from driftline.streams.observability.watchdog import Watchdog
from driftline.streams.worker.sink import KafkaSink
from driftline.streams.worker.table_store import TableStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from driftline.detectors.windows.profiling import PartitionState
    from driftline.streams.formats.wire import Outgoing, Raw

STILL_AFTER = 5_000
MARK = "tampered: stands still from now on"
BLOCKED_S = 120.0


class Still:
    """Whether the moment to stand still has come."""

    def __init__(self) -> None:
        self.records = 0

    @property
    def is_due(self) -> bool:
        return self.records >= STILL_AFTER

    def count_in(self, then: Callable[[], None] = lambda: None) -> None:
        """Count records as stage 1 takes them in, and tell, once, when the moment has come."""
        step = ProfilingStage.step

        def counting(stage: ProfilingStage, state: PartitionState, records: Sequence[Raw]) -> Any:
            was_due, self.records = self.is_due, self.records + len(records)
            if self.is_due and not was_due:
                print(MARK, file=sys.stderr, flush=True)
                then()
            return step(stage, state, records)

        ProfilingStage.step = counting  # type: ignore[assignment, method-assign]


def lost_commits() -> None:
    """Lose every second commit: reading starts well before the state's end, as after a kill at the worst moment."""
    commit, number = TableStore.commit, count()

    async def seldom(store: TableStore, partition: int, next_offset: int) -> bool:
        return next(number) % 2 == 0 or await commit(store, partition, next_offset)

    TableStore.commit = seldom  # type: ignore[assignment, method-assign]


def no_offset_check() -> None:
    """The same, and take in whatever comes, as if every batch went on where the state ends."""
    lost_commits()
    step = ProfilingStage.step

    async def anything(*_: object) -> bool:
        return True

    def stepping(stage: ProfilingStage, state: PartitionState, records: Sequence[Raw]) -> Any:
        holders: list[Any] = [state, *state.cells.values()]
        for each in holders:
            each.next_offset = min(each.next_offset, records[0].offset)
        return step(stage, state, records)

    Pump._is_contiguous = anything  # type: ignore[assignment, method-assign]
    ProfilingStage.step = stepping  # type: ignore[assignment, method-assign]


def blocked_loop() -> None:
    """Block the event loop; the consumer's thread goes on and sends heartbeats."""
    Still().count_in(lambda: time.sleep(BLOCKED_S))


def stuck_consumer() -> None:
    """Fetch, but hand over nothing any more."""
    still, fetched_records = Still(), Fetcher.fetched_records
    still.count_in()

    async def nothing(fetcher: Fetcher, *arguments: Any, **options: Any) -> Any:
        if not still.is_due:
            return await fetched_records(fetcher, *arguments, **options)
        await asyncio.sleep(1)
        return {}

    Fetcher.fetched_records = nothing


def stuck_changelog() -> None:
    """Send the changelog's records, but never hear of their acknowledgement: no snapshot is saved any more."""
    still, send = Still(), KafkaSink.send
    still.count_in()

    async def unacknowledged(sink: KafkaSink, record: Outgoing) -> Awaitable[object]:
        if still.is_due and record.topic in ("profiles", "verdicts"):
            return asyncio.get_running_loop().create_future()
        return await send(sink, record)

    KafkaSink.send = unacknowledged  # type: ignore[assignment, method-assign]


def stuck_consumer_unwatched() -> None:
    """The same without the watchdog."""
    stuck_consumer()
    Watchdog.stuck_for = lambda _: 0.0  # type: ignore[assignment, method-assign]


TAMPERED: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (lost_commits, no_offset_check, blocked_loop, stuck_consumer, stuck_changelog, stuck_consumer_unwatched)
}

if __name__ == "__main__":
    name = sys.argv.pop(1)
    TAMPERED[name]()
    main.main()
