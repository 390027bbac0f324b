"""A pump on an in-memory broker, with a clock that is set by hand."""

from __future__ import annotations

import asyncio
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

from driftline.streams.engine.profiling_stage import ProfilingStage
from driftline.streams.engine.pump import Pump
from driftline.streams.engine.scheduling import Turns
from tests.logs import SENSITIVE, Shape, baselines, prediction_log, spread, watching
from tests.memory_broker import Broker, MemorySink, MemoryStore, Session
from tests.simulator import STAGES, Rehearsal

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from driftline.detectors.layout.watch import Watch
    from tests.memory_broker import Record

P0 = ("predictions", 0)
INTERVAL_S, IDLE_S = 10.0, 30.0


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


@cache
def watch() -> Watch:
    return watching(SENSITIVE, *baselines())


def rehearsal(known: Watch | None = None, partitions: int = 1, n: int = 300) -> Rehearsal:
    found = Rehearsal(known or watch(), dict.fromkeys(STAGES, partitions))
    log = prediction_log(2, Shape(n=n, step_ms=1500, stragglers=0.02, rubbish=0.05))
    for partition, records in enumerate(spread(log, partitions)):
        found.broker.publish("predictions", partition, [(each.value, each.timestamp) for each in records])
    return found


class Bench:
    """Stage 1 on one pump, at a broker of one partition, with a clock that is set by hand."""

    def __init__(self, known: Watch | None = None, n: int = 300, turns: Turns | None = None) -> None:
        source = rehearsal(known, n=n)
        self.broker, self.shared, self.now_s = source.broker, source.shared, 0.0
        self.log = self.broker.logs[P0]
        self._turns = turns
        self.restart()

    def restart(
        self,
        sink: Callable[[Session], MemorySink] = MemorySink,
        store: Callable[[Session, str], MemoryStore] = MemoryStore,
    ) -> None:
        """A new worker."""
        self.session = Session(self.broker)
        self.sink, self.store = sink(self.session), store(self.session, "predictions")
        self.pump: Pump[Any] = Pump(
            ProfilingStage(self.shared),
            self.sink,
            self.store,
            interval_s=INTERVAL_S,
            idle_after_s=IDLE_S,
            turns=self._turns or Turns(lambda: self.now_s),
        )

    def poll(self, most: int) -> list[Record]:
        return self.store.poll(0, most)

    async def take(self, most: int) -> None:
        """One poll."""
        if records := self.poll(most):
            await self.pump.take(0, records)

    async def drain(self) -> None:
        """Polls until nothing comes, then a checkpoint."""
        while records := self.poll(50):
            await self.pump.take(0, records)
        await self.pump.checkpoint(0)

    @property
    def next_offset(self) -> int:
        return int(self.pump.states[0].next_offset)

    @property
    def lost(self) -> float:
        return self.shared.metrics.registry.get_sample_value("driftline_lost_offsets_total") or 0.0


def sent_to(broker: Broker, topic: str) -> list[bytes]:
    return [record.value or b"" for record in broker.records(topic)]


def partials(broker: Broker) -> list[bytes]:
    """Without the marks, which depend on the cut."""
    return sorted(value for value in sent_to(broker, "partials") if b"upto" in value)
