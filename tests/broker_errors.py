"""A worker on a cluster of three nodes whose requests fail on purpose, round after round, while a log is published.

What a round injects must have met requests of the worker before the next one begins, so that a run which ends has
injected all of it. ``.venv/bin/python -m tests.broker_errors --rounds 40`` runs each disturbance longer than the tests
do, and prints what came of it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer

from driftline.detectors.tumbling import DECIDING
from driftline.streams.demo.embedded import EmbeddedBroker, embedded_broker
from tests.chaos_log import build_fleet
from tests.fleet import (
    Outcome,
    Workers,
    differences,
    expected,
    logged,
    outcome_on,
    publish,
    settings_for,
    states_saved,
    topic_sizes,
    verdicts_complete,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from driftline.streams.config.settings import Settings
    from tests.memory_broker import Record

INPUT, OUTPUT, GROUP = NODES = 1, 2, 3
"""Leader of what the test writes, leader of what workers write, coordinator of their group."""

SESSION_TIMEOUT_S = "2"  # the mock cluster waits for it, less a second, in every rebalance
MET_WITHIN_S = 60.0
PARTITIONS, MODELS = 4, 4


@dataclass(frozen=True)
class Errors:
    """Errors for the next requests of one kind at each of these nodes."""

    api: str
    codes: tuple[int, ...]
    nodes: tuple[int, ...]
    delay_ms: int = 0


@dataclass
class Cluster:
    """What is disturbed, and how much it was."""

    broker: EmbeddedBroker
    settings: Settings
    workers: Workers
    sizes: dict[str, int]
    injected: int = 0
    ended: list[int] = field(default_factory=list)

    def inject(self, errors: Errors) -> None:
        """Let requests fail."""
        for node in errors.nodes:
            self.broker.push_errors(errors.api, errors.codes, node=node, delay_ms=errors.delay_ms)
            self.injected += len(errors.codes)  # probes too: each stands for a move

    def pending(self, errors: Errors) -> int:
        """How many of these have not met a request yet."""
        return sum(self.broker.pending_errors(errors.api, node=node) for node in errors.nodes)

    async def met(self, errors: Errors) -> None:
        """Wait until they have met requests."""
        async with asyncio.timeout(MET_WITHIN_S):
            while self.pending(errors):
                await self.replace_ended()
                await asyncio.sleep(0.02)

    async def replace_ended(self) -> None:
        """Start a worker for each that has ended by itself, as an orchestrator would."""
        for process in [each for each in self.workers.running if each.poll() is not None]:
            self.ended.append(process.returncode)
            self.workers.running.remove(process)
            self.workers.start()

    def lead(self, topics: Sequence[str], node: int) -> None:
        """Make a node the leader of all partitions of these topics."""
        for topic in topics:
            for partition in range(self.sizes[topic]):
                self.broker.move_leader(topic, partition, node)


async def nothing(_cluster: Cluster, _place: int) -> None:
    """The errors are enough."""


async def restart(cluster: Cluster, _place: int) -> None:
    """Stop the worker and start another, which has to find where its partitions begin and end.

    It takes longer to start than the errors to be pushed.
    """
    cluster.ended += [code for code in cluster.workers.stop() if code]
    cluster.workers.start()


async def lose_answers(cluster: Cluster, _place: int) -> None:
    """Once a delayed request was obeyed, cut the connection on which its answer waits."""
    await cluster.met(DELAYED)
    cluster.broker.set_down(OUTPUT)
    cluster.broker.set_up(OUTPUT)


async def move_leaders(cluster: Cluster, place: int) -> None:
    """Move all partitions one node on, and ask there for a sign of the worker."""
    topics = cluster.settings.topics
    read = [topics.predictions, topics.baselines]
    source, target = NODES[(place + 1) % 3], NODES[(place + 2) % 3]
    cluster.lead(read, source)
    cluster.lead([topic for topic in cluster.sizes if topic not in read], target)
    cluster.inject(Errors("Fetch", (NO_ERROR,), (source,)))
    cluster.inject(Errors("Produce", (NO_ERROR,), (target,)))


async def seen_at_leaders(cluster: Cluster, _place: int) -> None:
    """Wait until the worker has met both new leaders."""
    for api in ("Fetch", "Produce"):
        await cluster.met(Errors(api, (), NODES))


async def move_coordinator(cluster: Cluster, place: int) -> None:
    """Move the group one node on, and ask there for a sign of the worker."""
    node = NODES[place % 3]
    cluster.broker.move_coordinator(cluster.settings.worker.app_id, node)
    cluster.inject(Errors("OffsetCommit", (NO_ERROR,), (node,)))


async def seen_at_coordinator(cluster: Cluster, _place: int) -> None:
    """Wait until the worker has committed at the new coordinator."""
    await cluster.met(Errors("OffsetCommit", (), NODES))


@dataclass(frozen=True)
class Disturbance:
    """What happens to every part of the log: errors, what is done before it is published, and after."""

    errors: tuple[Errors, ...] = ()
    before: Callable[[Cluster, int], Awaitable[None]] = nothing
    after: Callable[[Cluster, int], Awaitable[None]] = nothing
    provoked_by: Errors | None = None
    """An error that makes clients send more of the requests that shall fail."""


NO_ERROR, UNKNOWN, CORRUPT, UNKNOWN_TOPIC, NO_LEADER, NOT_LEADER, TIMED_OUT = 0, -1, 2, 3, 5, 6, 7
LOADING, NO_COORDINATOR, NOT_COORDINATOR, TOO_FEW, TOO_FEW_AFTER_APPEND = 14, 15, 16, 19, 20
ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCING, OUT_OF_ORDER, FENCED, STORAGE, TOO_EARLY = 22, 25, 27, 45, 47, 56, 78
DISCONNECT = -195  # librdkafka's own

PRODUCE = (NOT_LEADER, TIMED_OUT, TOO_FEW, TOO_FEW_AFTER_APPEND, STORAGE, UNKNOWN_TOPIC, DISCONNECT)
FETCH = (NOT_LEADER, UNKNOWN, TOO_EARLY, CORRUPT, DISCONNECT)  # the mock cluster answers each after 1.5 s
COMMIT = (NOT_COORDINATOR, LOADING, NO_COORDINATOR, TIMED_OUT, REBALANCING)
OFFSETS = (NOT_LEADER, NO_LEADER, UNKNOWN_TOPIC)
HEARTBEAT = (NOT_COORDINATOR, NO_COORDINATOR, REBALANCING)  # no broker answers one with LOADING
DELAYED = Errors("Produce", (NO_ERROR,), (OUTPUT,), delay_ms=60_000)

DISTURBANCES = {
    "produce": Disturbance((Errors("Produce", PRODUCE, (OUTPUT,)),)),
    "lost-acknowledgements": Disturbance((DELAYED,), after=lose_answers),
    "fetch": Disturbance((Errors("Fetch", FETCH, (INPUT, OUTPUT)),)),
    "offset-commit": Disturbance((Errors("OffsetCommit", COMMIT, (GROUP,)),)),
    "commit-unknown": Disturbance((Errors("OffsetCommit", (UNKNOWN,), (GROUP,)),)),
    "list-offsets": Disturbance((Errors("ListOffsets", OFFSETS, (INPUT, OUTPUT)),), before=restart),
    "heartbeat": Disturbance((Errors("Heartbeat", HEARTBEAT, (GROUP,)),)),
    "membership": Disturbance(
        (
            Errors("Heartbeat", (UNKNOWN_MEMBER, ILLEGAL_GENERATION), (GROUP,)),
            Errors("OffsetCommit", (ILLEGAL_GENERATION, UNKNOWN_MEMBER), (GROUP,)),
        )
    ),
    "find-coordinator": Disturbance(
        (Errors("FindCoordinator", (NO_COORDINATOR,), NODES),),
        provoked_by=Errors("Heartbeat", (NOT_COORDINATOR,), (GROUP,)),
    ),
    "metadata": Disturbance(
        (Errors("Metadata", (NO_LEADER,), NODES),), provoked_by=Errors("Fetch", (NOT_LEADER,), (OUTPUT,))
    ),
    "leaders": Disturbance(before=move_leaders, after=seen_at_leaders),
    "coordinator": Disturbance(before=move_coordinator, after=seen_at_coordinator),
}

FATAL = {
    "produce-unknown": Disturbance((Errors("Produce", (UNKNOWN,), (OUTPUT,)),)),
    "produce-out-of-order": Disturbance((Errors("Produce", (OUT_OF_ORDER,), (OUTPUT,)),)),
    "produce-fenced": Disturbance((Errors("Produce", (FENCED,), (OUTPUT,)),)),
    "heartbeat-unknown": Disturbance((Errors("Heartbeat", (UNKNOWN,), (GROUP,)),)),
}
"""Errors that trying again does not mend: each ends a worker, which is replaced."""


@dataclass
class Run:
    """What came of it: problems, errors that met a request, exit codes of workers that ended by themselves."""

    problems: list[str]
    injected: int
    ended: list[int]
    worker_log: str


async def run(name: str, rounds: int, directory: Path) -> Run:
    """Publish a log in so many parts, each disturbed, while a worker runs; compare with an undisturbed run.

    Parameters
    ----------
    name
        Which disturbance.
    rounds
        How many parts.
    directory
        For the configuration and the workers' log.
    """
    fleet = build_fleet(max(6_000, 400 * rounds), MODELS, PARTITIONS)
    settings, _ = settings_for("unused:1", name, directory, **fleet.plan)
    sizes = topic_sizes(settings, PARTITIONS)
    with embedded_broker(sizes, brokers=len(NODES)) as broker:
        settings, config = settings_for(broker.bootstrap_servers, name, directory, **fleet.plan)
        log = [_kept(records) for records in fleet.log(settings.topics.predictions)]
        with Workers(config, {"DRIFTLINE_WORKER__SESSION_TIMEOUT_S": SESSION_TIMEOUT_S}) as workers:
            cluster = Cluster(broker, settings, workers, sizes)
            cluster.lead(list(sizes), OUTPUT)
            cluster.lead([settings.topics.predictions, settings.topics.baselines], INPUT)
            broker.move_coordinator(name, GROUP)
            await publish(settings, fleet.baselines, [])
            workers.start()
            await _disturb(cluster, (DISTURBANCES | FATAL)[name], log, rounds)
            problems = await _problems(cluster, log, expected(fleet.watch, log))
    return Run(problems, cluster.injected, cluster.ended, logged(config))


def _kept(records: Sequence[Record]) -> list[Record]:
    """What an embedded broker keeps: the producers' timestamps, so that it takes many records to close the last windows."""
    last = [replace(records[-1], offset=len(records) + place) for place in range(DECIDING - 1)]
    return [replace(each, timestamp_type=0) for each in (*records, *last)]


async def _disturb(cluster: Cluster, disturbance: Disturbance, log: Sequence[Sequence[Record]], rounds: int) -> None:
    # One producer for all parts: it asks for metadata when it starts, and not again.
    async with AIOKafkaProducer(bootstrap_servers=cluster.settings.kafka.bootstrap_servers) as producer:
        await producer.partitions_for(cluster.settings.topics.predictions)
        for place in range(rounds):
            await disturbance.before(cluster, place)
            for errors in disturbance.errors:
                cluster.inject(errors)
            for records in log:
                start, stop = (len(records) * each // rounds for each in (place, place + 1))
                for each in records[start:stop]:
                    await producer.send(each.topic, each.value, partition=each.partition, timestamp_ms=each.timestamp)
            await producer.flush()
            await disturbance.after(cluster, place)
            for errors in disturbance.errors:
                while disturbance.provoked_by and cluster.pending(errors):
                    cluster.inject(disturbance.provoked_by)
                    await cluster.met(disturbance.provoked_by)
                await cluster.met(errors)


async def _problems(cluster: Cluster, log: Sequence[Sequence[Record]], wanted: Outcome) -> list[str]:
    """How it differs from an undisturbed run, once the last worker has done all it had to."""
    for _ in range(6):
        await cluster.replace_ended()
        try:
            await verdicts_complete(cluster.settings, wanted, within_s=10)
            await states_saved(cluster.settings, dict(enumerate(map(len, log))), within_s=10)
        except TimeoutError as error:
            problems = [str(error)]
        else:
            problems = [f"exit code {code}" for code in cluster.workers.stop() if code]
            return problems + differences(wanted, await outcome_on(cluster.settings))
    return problems


def main() -> None:
    """Run disturbances at length; exit 1 if one does not end in what an undisturbed run gives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--only", action="append", choices=DISTURBANCES | FATAL)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the workers' logs there")
    arguments = parser.parse_args()
    broken = 0
    for name in arguments.only or DISTURBANCES | FATAL:
        with tempfile.TemporaryDirectory(prefix="driftline-errors-") as directory:
            started = time.monotonic()
            found = asyncio.run(run(name, arguments.rounds, arguments.keep or Path(directory)))
            broken += bool(found.problems)
            result = "; ".join(found.problems) or "equal"
            sys.stdout.write(
                f"{name}: {result}; {found.injected} errors, workers ended by themselves with {found.ended}, "
                f"{time.monotonic() - started:.0f} s\n"
            )
            sys.stdout.flush()
    sys.exit(min(1, broken))


if __name__ == "__main__":
    main()
