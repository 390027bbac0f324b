"""Follows topic ``baselines``: read to its end before the first record, and from then on as it grows."""

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from driftline.detectors.documents.baseline import Baseline
from driftline.detectors.errors import OperatorError
from driftline.detectors.layout.plan_names import exposed_signals, unknown_models, unknown_signals, unused_bounds
from driftline.detectors.layout.watch import Watch
from driftline.detectors.names import is_name
from driftline.streams.engine.shared import Shared
from driftline.streams.kafka.recreated import Lookup, bookmark_of

if TYPE_CHECKING:
    from driftline.detectors.documents.bookmark import Bookmark

log = logging.getLogger(__name__)

CATCH_UP_S = 10.0
CHECK_EVERY_S = 10.0
"""How often the log is held against what was read last: a topic that was made again may be longer than the one before."""


class BaselineFollower:
    """Keeps the watch up to date with a plain consumer without a group.

    Parameters
    ----------
    consumer
        Started consumer, which begins at 0 where its position is out of range; it is assigned all partitions here.
    topic, n_partitions
        Name and number of partitions of the baselines topic.
    shared
        Whose watch is replaced.
    lookup
        Asks whether the log is the one that was read.
    """

    def __init__(
        self, consumer: AIOKafkaConsumer, topic: str, n_partitions: int, shared: Shared, lookup: Lookup
    ) -> None:
        self._consumer, self._topic, self._n_partitions, self._shared = consumer, topic, n_partitions, shared
        self._lookup, self._checked_at = lookup, monotonic()
        self._bookmarks: dict[TopicPartition, Bookmark] = {}
        self._said: set[str] = set()

    async def catch_up(self) -> None:
        """Read to the end that the topic has now.

        Raises
        ------
        OperatorError
            Where the plan names a signal that no baseline of its model has, or bounds of one that is no number.
        """
        partitions = [TopicPartition(self._topic, each) for each in range(self._n_partitions)]
        self._consumer.assign(partitions)
        await self._consumer.seek_to_beginning(*partitions)
        ends = await self._consumer.end_offsets(partitions)
        while any([await self._consumer.position(each) < end for each, end in ends.items()]):
            self._take(await self._consumer.getmany(timeout_ms=1000))
        log.info("%d model versions have a baseline", len(self._shared.watch.layouts))
        for sentence in _misfits(self._shared.watch):
            raise OperatorError(sentence)
        for sentence in exposed_signals(self._shared.watch):
            log.warning("%s", sentence)
        for sentence in unknown_models(self._shared.watch):
            log.warning("%s; it changes nothing until one is published", sentence)

    async def caught_up(self) -> None:
        """Wait until all is known that the topic has now: a state from another worker may count by what came last.

        Where Kafka does not answer in time, the worker goes on with what it knows.
        """
        partitions = [TopicPartition(self._topic, each) for each in range(self._n_partitions)]
        try:
            async with asyncio.timeout(CATCH_UP_S):
                ends = await self._consumer.end_offsets(partitions)
                while any([await self._consumer.position(each) < end for each, end in ends.items()]):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        except (KafkaError, TimeoutError) as error:
            log.warning("%s: not read to its end before states were restored: %r", self._topic, error)

    async def follow(self) -> None:
        """Apply baselines as they arrive, until cancelled."""
        while True:
            known = self._shared.watch
            self._take(await self._consumer.getmany(timeout_ms=1000))
            if self._shared.watch is not known:
                self._say_misfits()
            if monotonic() - self._checked_at >= CHECK_EVERY_S:
                await self._read_again_if_made_again()
                self._checked_at = monotonic()
            await asyncio.sleep(0)  # let the worker go on even if the topic has much to tell

    async def _read_again_if_made_again(self) -> None:
        """Begin at 0 where the topic was deleted and made again. The baselines that it had stay in force until replaced."""
        for place, bookmark in list(self._bookmarks.items()):
            try:
                await self._lookup.check(place.topic, place.partition, bookmark)
            except OperatorError:
                log.warning("%s[%d] was deleted and made again: read from its beginning", *place)
                del self._bookmarks[place]
                await self._consumer.seek_to_beginning(place)

    def _say_misfits(self) -> None:
        """Say once what a start would be refused for: a running worker goes on."""
        for sentence in set(_misfits(self._shared.watch)) - self._said:
            self._said.add(sentence)
            log.warning("%s; a worker that starts now would refuse the plan", sentence)

    def _take(self, found: dict[TopicPartition, list[Any]]) -> None:
        for place, records in found.items():
            for record in records:
                self._take_one(record)
                self._bookmarks[place] = bookmark_of(record)

    def _take_one(self, record: Any) -> None:
        """A record that is no baseline is not worth the worker's life: it is logged, counted, passed over."""
        shared = self._shared
        if record.value is None:
            self._retire((record.key or b"").decode("utf-8", "replace"))
            return
        try:
            baseline = Baseline.from_json(record.value)
            shared.watch = shared.watch.with_baseline(baseline)
        except OperatorError as error:
            log.error("%s[%d] offset %d: %s", self._topic, record.partition, record.offset, error)  # noqa: TRY400
            shared.metrics.refused_baselines.inc()
            return
        shared.metrics.models.set(len(shared.watch.layouts))
        log.info(
            "baseline %s|%s %s, effective from %d ms",
            baseline.model, baseline.version, baseline.hash, baseline.effective_from_ms,
        )  # fmt: skip

    def _retire(self, key: str) -> None:
        """A tombstone under the key ``model|version`` withdraws its baselines."""
        shared, (model, _, version) = self._shared, key.partition("|")
        is_known = (model, version) in shared.watch.layouts
        if not is_name(model) or not is_name(version):
            return
        shared.watch = shared.watch.without((model, version))  # a saved state may know one that the topic has forgotten
        if is_known:
            shared.metrics.models.set(len(shared.watch.layouts))
            log.warning("baseline %s was retired: its model version is watched no longer", key)


def _misfits(watch: Watch) -> list[str]:
    """What a plan says of signals that are not so in any baseline of their model."""
    return [*unknown_signals(watch), *unused_bounds(watch)]
