"""One worker process: two agents on two pumps, and a tick that saves, measures and watches."""

import asyncio
import gc
import logging
from time import monotonic
from typing import TYPE_CHECKING, Any

import faust
from faust.types import TP

from driftline.detectors.errors import START_OVER, OperatorError
from driftline.streams.config.settings import Settings
from driftline.streams.engine.ports import Sink
from driftline.streams.engine.profiling_stage import ProfilingStage
from driftline.streams.engine.pump import Pump
from driftline.streams.engine.scheduling import Turns
from driftline.streams.engine.shared import Shared
from driftline.streams.engine.superseded import Superseded
from driftline.streams.engine.verdict_stage import VerdictStage
from driftline.streams.kafka.connection import is_reachable
from driftline.streams.kafka.fetching import polls_per_fetch
from driftline.streams.kafka.recreated import Lookup
from driftline.streams.observability.watchdog import EXIT_AFTER_S, Progress, Stuck, Watchdog
from driftline.streams.worker.baseline_follower import BaselineFollower
from driftline.streams.worker.batching import BatchSchema
from driftline.streams.worker.table_store import TableStore

if TYPE_CHECKING:
    from driftline.detectors.documents.bookmark import Bookmark

log = logging.getLogger(__name__)

TICK_S = 0.5
ASK_EVERY_S = 5.0
"""Seconds without progress after which a worker asks, again and again, whether it is Kafka that is away."""


class Worker:
    """What a worker holds, and how it starts, ticks and stops.

    Parameters
    ----------
    settings
        The configuration.
    app
        Faust application, not yet started.
    shared
        What both stages read.
    sink
        Where outputs go.
    lookup
        Asks whether a log is the one that was read.
    baselines
        Have to be read before a state is restored.
    """

    def __init__(
        self,
        settings: Settings,
        app: faust.App,
        shared: Shared,
        sink: Sink,
        lookup: Lookup,
        baselines: BaselineFollower,
    ) -> None:
        self.app, self.shared, self._settings, self._lookup, self._baselines = app, shared, settings, lookup, baselines
        self._lost: dict[TP, Bookmark] = {}
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Ends with the exception that a stage failed of."""
        topics = settings.topics
        self._turns = Turns(monotonic, polls_per_fetch(settings.worker.max_batch_records))
        self._stores: dict[str, TableStore] = {}
        self._pumps: dict[str, Pump[Any]] = {
            topics.predictions: self._pump(topics.predictions, ProfilingStage(shared), "profiles", sink),
            topics.partials: self._pump(topics.partials, VerdictStage(shared), "verdicts", sink),
        }
        self._watchdog, self._asked_at = Watchdog(), 0.0
        self._superseded = Superseded(shared, monotonic)
        self._exported: set[TP] = set()
        app.on_partitions_revoked.connect(self._on_revoked, weak=False)

    def _pump(self, topic: str, stage: Any, name: str, sink: Sink) -> Pump[Any]:
        """One agent and one table per stage. An exception in an agent ends the worker, and is said once, when it ends.

        Faust would log it twice, with its traceback, before the message that tells the operator what to do.
        """
        knobs, partitions = self._settings.worker, self.shared.partitions_of(name)
        table = self.app.Table(name, partitions=partitions, key_type=bytes, value_type=bytes)  # bytes: no serializer
        self._stores[topic] = TableStore(self.app, topic, table, sink, self._lookup)
        pump: Pump[Any] = Pump(
            stage,
            sink,
            self._stores[topic],
            interval_s=knobs.snapshot_interval_s,
            idle_after_s=self._settings.plan.idle_after_ms / 1000,
            turns=self._turns,
        )

        async def agent(stream: Any) -> None:
            async for event in stream.events():
                try:
                    if event.message.partition not in pump.states:
                        await self._baselines.caught_up()
                    await pump.take(event.message.partition, event.message.value)
                except Exception as error:  # noqa: BLE001 - whatever it is, it ends the worker
                    self._fail(error)
                    await asyncio.Event().wait()

        channel = self.app.topic(topic, schema=BatchSchema(), acks=False)
        self.app.agent(channel, name=f"driftline.{name}", concurrency=1)(agent)
        return pump

    def _fail(self, error: Exception) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    async def start(self) -> None:
        """Consume until the application stops.

        Raises
        ------
        BaseException
            What it crashed of.
        """
        await self.app.start()
        # What lives as long as the worker is not worth walking by the garbage collector again and again.
        gc.collect()
        gc.freeze()
        await self.app.wait_until_stopped()
        if self.app.crash_reason is not None:
            raise self.app.crash_reason

    async def stop(self) -> None:
        """Checkpoint everything, then leave the group."""
        for pump in self._pumps.values():
            await pump.release(pump.states)
        await self.app.stop()

    async def abandon(self) -> None:
        """Stop without saving: a worker that failed must not keep what it made of it. Takes 5 s at most."""
        self._pumps.clear()
        try:
            async with asyncio.timeout(5.0):
                await self.app.stop()
        except Exception:
            log.exception("Faust did not stop")

    async def _on_revoked(self, _app: Any, revoked: set[TP], **_options: Any) -> None:
        for topic, pump in self._pumps.items():
            mine = [tp.partition for tp in revoked if tp.topic == topic]
            self._lost |= {TP(topic, each): mark for each, mark in pump.bookmarks.items() if each in mine}
            await pump.release(mine)

    @property
    def is_consuming(self) -> bool:
        """Whether partitions are assigned and their states restored."""
        recovery = self.app.tables.recovery
        return not self.app.rebalancing and not recovery.in_recovery and bool(recovery.completed.is_set())

    def unready(self) -> str | None:
        """Why this worker is not ready, if so."""
        if self.app.should_stop:
            return "stopping"
        return self._watchdog.complaint() if self.is_consuming else "rebalancing or restoring state"

    async def tick(self) -> None:
        """Save what is due and tell of silence, twice a second. While Kafka is away this waits for it."""
        while True:
            await asyncio.sleep(TICK_S)
            if self.is_consuming:
                await self._check_lost()
                for topic, pump in self._pumps.items():
                    await pump.tick()
                    await self._nudge(topic, pump)
                self._superseded.release(state for pump in self._pumps.values() for state in pump.states.values())

    async def watch(self) -> None:
        """Measure lag and progress, twice a second: apart from saving, so that a wait for Kafka does not look like a blocked loop.

        Raises
        ------
        Stuck
            Once nothing has moved for too long.
        """
        self._watchdog.guard()
        while True:
            await self._refuse_standstill()
            await asyncio.sleep(TICK_S)
            self.shared.metrics.tasks.set(len(asyncio.all_tasks()))
            self.shared.strangers.say()
            if self.is_consuming:
                await self._know_baselines()
                self._watchdog.observe(
                    {
                        f"{topic}[{partition}]": progress
                        for topic, pump in self._pumps.items()
                        for partition, progress in self._owned(topic, pump).items()
                    }
                )
            else:
                self._watchdog.observe({"group": Progress(0, 1, 0)})

    def _owned(self, topic: str, pump: Pump[Any]) -> dict[int, Progress]:
        """Progress of the owned partitions of a topic; all of them are held from now on, even silent ones."""
        self._refuse_other_partitions(topic)
        metrics, consumer = self.shared.metrics, self.app.consumer
        mine = [tp for tp in consumer.assignment() if tp.topic == topic]
        for tp in [each for each in self._exported - set(mine) if each.topic == topic]:
            metrics.lag.remove(*tp)
            self._exported.discard(tp)
        pump.own(tp.partition for tp in mine)
        found = {}
        for tp in mine:
            end = self._stores[topic].end(tp.partition)
            progress = found[tp.partition] = pump.progress(tp.partition, end or 0)
            if end is not None:  # before the first fetch nobody knows it: no series is better than a lag of 0
                metrics.lag.labels(*tp).set(max(0, end - progress.next_offset))
                self._exported.add(tp)
        if topic == self._settings.topics.predictions:
            metrics.partitions.set(len(mine))
        return found

    async def _nudge(self, topic: str, pump: Pump[Any]) -> None:
        """Read again what Faust has dropped, and let it fetch partitions that it holds back for a queue it emptied."""
        consumer, places = self.app.consumer, [TP(topic, partition) for partition in pump.states]
        end = self._stores[topic].end
        nudged = await asyncio.gather(
            *(pump.nudge(tp.partition, -1 if (known := end(tp.partition)) is None else known) for tp in places)
        )
        for tp, was_nudged in zip(places, nudged, strict=True):
            if was_nudged:
                consumer.on_buffer_drop(tp)

    async def _know_baselines(self) -> None:
        """Read the baselines before the states of partitions that have come are restored."""
        tps = self.app.consumer.assignment()
        if any(tp.partition not in self._pumps[tp.topic].states for tp in tps if tp.topic in self._pumps):
            await self._baselines.caught_up()

    async def _check_lost(self) -> None:
        """See why partitions were taken away: when their topic is deleted Faust goes on without it, for ever."""
        while self._lost:
            tp, bookmark = next(iter(self._lost.items()))
            await self._lookup.check(tp.topic, tp.partition, bookmark)
            self._lost.pop(tp, None)

    def _refuse_other_partitions(self, topic: str) -> None:
        """The number of partitions is part of the states' identity."""
        names = {self._settings.topics.predictions: "profiles", self._settings.topics.partials: "verdicts"}
        was, now = self.shared.partitions_of(names[topic]), self.app.consumer.topic_partitions(topic)
        if now and now != was:  # a topic that is missing for the moment has none at all
            raise OperatorError(
                f"topic {topic!r} has {now} partitions instead of {was}, which the saved state does not know: {START_OVER}"
            )

    async def _refuse_standstill(self) -> None:
        """Raise Stuck if nothing has moved for so long though a broker answers: an outage of Kafka's is waited out.

        It is asked now and then, so that an outage that has just ended does not count against the worker.
        """
        stuck_s = self._watchdog.stuck_for()
        if stuck_s < ASK_EVERY_S or (stuck_s < EXIT_AFTER_S and monotonic() - self._asked_at < ASK_EVERY_S):
            return
        is_away = not await is_reachable(self._settings.kafka)
        self._asked_at = monotonic()
        if is_away:
            log.warning("no broker answers; waiting")
            self._watchdog.excuse()
        elif stuck_s >= EXIT_AFTER_S:
            raise Stuck(f"no progress for {stuck_s:.0f} s though Kafka answers: {self.unready()}")
