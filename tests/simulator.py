"""Both stages over a log in memory, by workers to which things happen: what is left must be as if nothing had.

A schedule is a list of turns. What it does not do is done at the end, undisturbed.
"""

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any, NamedTuple

import orjson

from driftline.detectors.layout.watch import Watch
from driftline.detectors.snapshots.envelope import OWN, unseal
from driftline.streams.engine.ports import SETTLING_S, Stage
from driftline.streams.engine.profiling_stage import ProfilingStage
from driftline.streams.engine.pump import Pump
from driftline.streams.engine.scheduling import REST_S, Turns
from driftline.streams.engine.shared import Shared
from driftline.streams.engine.verdict_stage import VerdictStage
from driftline.streams.observability.metrics import Metrics
from tests.memory_broker import Broker, MemorySink, MemoryStore, Place, Session, WorkerDied

STAGES: dict[str, Callable[[Shared], Stage[Any]]] = {"predictions": ProfilingStage, "partials": VerdictStage}
"""Topic to the stage that reads it, in the order in which records flow."""
IDLE_S = 1.0


class Outcome(NamedTuple):
    """What a run leaves; two runs are equal if their outcomes are.

    Parameters
    ----------
    verdicts, alerts
        Id to the documents that were final, each distinct one once: there must be one each.
    profiles, fleets
        States of the first and the second stage by partition and key, as they are saved, without their offsets.
    """

    verdicts: dict[str, set[bytes]]
    alerts: dict[str, set[bytes]]
    profiles: dict[tuple[int, bytes], bytes]
    fleets: dict[tuple[int, bytes], bytes]


class Member:
    """One worker: a pump per stage at one session."""

    def __init__(self, rehearsal: "Rehearsal") -> None:
        self.session = Session(rehearsal.broker)
        self.sink = MemorySink(self.session)
        self.stores = {topic: MemoryStore(self.session, topic) for topic in STAGES}
        turns = Turns(lambda: rehearsal.now_s)
        self.pumps: dict[str, Pump[Any]] = {
            topic: Pump(
                stage(rehearsal.shared),
                self.sink,
                self.stores[topic],
                interval_s=inf,  # saving is a turn of its own
                idle_after_s=IDLE_S,
                turns=turns,
            )
            for topic, stage in rehearsal.stages.items()
        }

    async def take(self, place: Place, most: int) -> None:
        """Poll a partition, process what came, and let the producer write."""
        topic, partition = place
        if records := self.stores[topic].poll(partition, most):
            await self.pumps[topic].take(partition, records)
            self.sink.flush()


class Turn(NamedTuple):
    """Something that happens.

    Parameters
    ----------
    name
        A key of ``TURNS``.
    place
        At which topic and partition.
    n
        How many records are polled, read again or skipped; how many writes a worker or a zombie still makes.
    """

    name: str
    place: Place
    n: int = 0


@dataclass
class Rehearsal:
    """A fleet of workers at a broker in memory.

    Parameters
    ----------
    watch
        Plan and baselines.
    partitions
        Topic of ``STAGES`` to its number of partitions.
    stages
        What the workers run.
    """

    watch: Watch
    partitions: dict[str, int]
    stages: dict[str, Callable[[Shared], Stage[Any]]] = field(default_factory=lambda: STAGES)
    now_s: float = 0.0
    coming: deque[tuple[int, bytes | None, int]] = field(default_factory=deque)
    """Records that are not appended yet: partition, value and append time."""
    broker_ms: int = 0
    """The broker's clock."""

    def __post_init__(self) -> None:
        self.broker = Broker({**self.partitions, "windows": 1, "alerts": 1, "dead_letters": 1})
        self.metrics = Metrics("rehearsal")
        sizes = self.partitions
        self.shared = Shared(self.watch, sizes["predictions"], sizes["partials"], 2**20, self.metrics)
        self.places = [(topic, place) for topic in STAGES for place in range(self.partitions[topic])]
        self.owners = dict.fromkeys(self.places, Member(self))
        self.zombies: list[tuple[Member, Place]] = []

    async def run(self, schedule: Iterable[Turn]) -> Outcome:
        """Let a schedule happen, then everything else without disturbance."""
        for turn in schedule:
            await self.turn(turn)
        for owner in self.owners.values():
            owner.session.crash(after=inf)
        self.append(len(self.coming))
        while await self._go_on():
            pass
        for topic, partition in self.places:
            await self.owners[topic, partition].pumps[topic].checkpoint(partition)
        return self.outcome()

    def append(self, n: int) -> None:
        """Let so many of the records that are coming be appended, in the order of their append times."""
        for _ in range(min(n, len(self.coming))):
            partition, value, appended_ms = self.coming.popleft()
            self.broker_ms = max(self.broker_ms, appended_ms)
            self.broker.publish("predictions", partition, [(value, appended_ms)])

    async def turn(self, turn: Turn) -> None:
        """Let one thing happen; a worker that dies is replaced."""
        try:
            await TURNS[turn.name](self, turn)
        except WorkerDied:
            self._bury()
        self.check_books()

    async def _go_on(self) -> bool:
        """Take a batch from every partition; false when nothing moves any more."""
        before = self._progress()
        self.now_s += REST_S
        for topic, partition in self.places:
            owner = self.owners[topic, partition]
            await owner.take((topic, partition), most=1000)
            owner.pumps[topic].own(
                each for other, each in self.places if other == topic and self.owners[other, each] is owner
            )
            while await owner.pumps[topic].say_what_is_due(partition):
                owner.sink.flush()
            await owner.pumps[topic].nudge(partition, self.broker.logs[topic, partition].end)
        return self._progress() != before

    def _progress(self) -> list[tuple[int, int]]:
        """Positions and offsets of states."""
        found = []
        for (topic, partition), owner in self.owners.items():
            state = owner.pumps[topic].states.get(partition)
            found.append((owner.stores[topic].positions.get(partition, -1), -1 if state is None else state.next_offset))
        return found

    def _bury(self) -> None:
        """Give the partitions of workers that died to a new one."""
        successor = Member(self)
        self.owners = {place: owner if owner.session.is_alive else successor for place, owner in self.owners.items()}
        self.zombies = [(member, place) for member, place in self.zombies if member.session.is_alive]

    def tally(self) -> Counter[str]:
        """Records read, and by what became of them."""
        samples = [sample for family in self.metrics.records.collect() for sample in family.samples]
        found = Counter({each.labels["result"]: int(each.value) for each in samples if each.name.endswith("_total")})
        found["in"] = int(next(iter(self.metrics.records_in.collect())).samples[0].value)
        return found

    def check_books(self) -> None:
        """See that every record read was accepted, late, rejected or skipped, and counted as one of them."""
        tally = self.tally()
        if 2 * tally["in"] != tally.total():
            raise AssertionError(f"the counts of records don't add up: {dict(tally)}")

    def outcome(self) -> Outcome:
        """What the run has left so far."""
        states: dict[str, dict[tuple[int, bytes], bytes]] = {topic: {} for topic in STAGES}
        for topic, partition in self.places:
            states[topic] |= self._states(topic, partition)
        return Outcome(self._final("windows"), self._final("alerts"), states["predictions"], states["partials"])

    def _states(self, topic: str, partition: int) -> dict[tuple[int, bytes], bytes]:
        """All cells of a partition as they would be saved, the offsets left out: they depend on who sent what twice."""
        stage, state = self.stages[topic](self.shared), self.owners[topic, partition].pumps[topic].states[partition]
        for cell in (state.cells if topic == "predictions" else state.models).values():
            cell.is_dirty = True
        return {(partition, key): unseal(raw).payload for key, raw in stage.dump(state) if key != OWN and raw}

    def _final(self, topic: str) -> dict[str, set[bytes]]:
        found: dict[str, set[bytes]] = {}
        for record in self.broker.records(topic):
            document = orjson.loads(record.value or b"")
            if document["final"]:
                found.setdefault(document["id"], set()).add(record.value or b"")
        return found

    def owner(self, turn: Turn) -> Member:
        """The worker that owns a turn's partition."""
        return self.owners[turn.place]

    def replace(self, turn: Turn) -> Member:
        """Give a turn's partition to a new worker."""
        self.owners[turn.place] = Member(self)
        return self.owners[turn.place]


async def _poll(rehearsal: Rehearsal, turn: Turn) -> None:
    """A poll brings a batch."""
    await rehearsal.owner(turn).take(turn.place, max(1, turn.n))


async def _save(rehearsal: Rehearsal, turn: Turn) -> None:
    """A checkpoint is due."""
    await rehearsal.owner(turn).pumps[turn.place[0]].checkpoint(turn.place[1])


async def _crash(rehearsal: Rehearsal, turn: Turn) -> None:
    """The partition's owner will die before a write; that it dies after the one before comes to the same."""
    rehearsal.owner(turn).session.crash(turn.n)


async def _repeat(rehearsal: Rehearsal, turn: Turn) -> None:
    """Records come again."""
    store, (_, partition) = rehearsal.owner(turn).stores[turn.place[0]], turn.place
    store.positions[partition] = max(0, store.positions.get(partition, 0) - turn.n)


async def _skip(rehearsal: Rehearsal, turn: Turn) -> None:
    """A batch that was queued before a rebalance comes before those that should."""
    store, (_, partition) = rehearsal.owner(turn).stores[turn.place[0]], turn.place
    store.positions[partition] = store.positions.get(partition, 0) + turn.n


async def _revoke(rehearsal: Rehearsal, turn: Turn) -> None:
    """A partition moves to another worker, in good order."""
    await rehearsal.owner(turn).pumps[turn.place[0]].release([turn.place[1]])
    rehearsal.replace(turn)


async def _freeze(rehearsal: Rehearsal, turn: Turn) -> None:
    """A worker is paused; its partition moves to another, and it doesn't know."""
    rehearsal.zombies.append((rehearsal.owner(turn), turn.place))
    rehearsal.replace(turn)


async def _thaw(rehearsal: Rehearsal, turn: Turn) -> None:
    """A paused worker wakes, takes in and saves what it had queued, unaware of its loss; it may die half-way."""
    if rehearsal.zombies:
        member, (topic, partition) = rehearsal.zombies.pop()
        member.session.crash(turn.n)
        await member.take((topic, partition), turn.n % 8)
        await member.pumps[topic].release([partition])


async def _wait(rehearsal: Rehearsal, turn: Turn, seconds: float) -> None:
    """Time passes, for the broker too, and the partition's owner looks at its clock."""
    rehearsal.now_s, rehearsal.broker_ms = rehearsal.now_s + seconds, rehearsal.broker_ms + int(1000 * seconds)
    rehearsal.append(sum(appended_ms <= rehearsal.broker_ms for _, _, appended_ms in rehearsal.coming))
    owner = rehearsal.owner(turn)
    await owner.pumps[turn.place[0]].tick()
    owner.sink.flush()


async def _append(rehearsal: Rehearsal, turn: Turn) -> None:
    """Services publish records."""
    rehearsal.append(turn.n)


TURNS: dict[str, Callable[[Rehearsal, Turn], Awaitable[None]]] = {
    "poll": _poll,
    "save": _save,
    "crash": _crash,
    "repeat": _repeat,
    "skip": _skip,
    "revoke": _revoke,
    "freeze": _freeze,
    "thaw": _thaw,
    "idle": partial(_wait, seconds=IDLE_S),
    "append": _append,
    "settle": partial(_wait, seconds=SETTLING_S),
}
