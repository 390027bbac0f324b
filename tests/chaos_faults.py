"""The faults that disturb workers and brokers, then let the workers finish."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

from aiokafka.admin import AIOKafkaAdminClient

from driftline.streams.kafka.connection import opened
from tests.chaos_stage import EQUAL, Fault, Stage, small_log

if TYPE_CHECKING:
    from driftline.streams.config.settings import Settings


async def calm(stage: Stage) -> str:
    """Two workers and no fault: the suite's own check."""
    for _ in range(2):
        stage.workers.start()
    return "2 workers"


async def kills(stage: Stage, n: int = 30) -> str:
    """kill -9 of a random worker every 3 to 8 s, four workers; each is replaced at once."""
    for _ in range(4):
        stage.workers.start()
    for _ in range(n):
        await asyncio.sleep(stage.random.uniform(3, 8))
        stage.workers.kill(stage.random.choice(stage.workers.running))
        stage.workers.start()
    return f"{n} kills"


async def few_kills(stage: Stage) -> str:
    """As above, six times."""
    return await kills(stage, 6)


async def pauses(stage: Stage, n: int = 10) -> str:
    """SIGSTOP for 1.5 times the session timeout: the worker comes back as a zombie."""
    for _ in range(3):
        stage.workers.start()
    for _ in range(n):
        await asyncio.sleep(2)
        process = stage.random.choice(stage.workers.running)
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.5 * stage.settings.worker.session_timeout_s)
        process.send_signal(signal.SIGCONT)
        await stage.replace_dead()
    return f"{n} pauses"


async def few_pauses(stage: Stage) -> str:
    """As above, twice."""
    return await pauses(stage, 2)


async def broker_crashes(stage: Stage, n: int = 4) -> str:
    """kill -9 of the broker and a restart on the same log directory."""
    for _ in range(2):
        stage.workers.start()
    await stage.view.settled(within_s=60)
    left = await stage.lag()
    async with stage.orchestrated():
        for _ in range(n):
            await asyncio.sleep(stage.random.uniform(3, 6))
            await stage.kafka("kill")
            await stage.kafka("start")
    return f"{n} restarts, {left} before"


async def broker_crash(stage: Stage) -> str:
    """As above, once."""
    return await broker_crashes(stage, 1)


async def broker_away(stage: Stage) -> str:
    """The broker is away for two minutes."""
    for _ in range(2):
        stage.workers.start()
    await stage.view.settled(within_s=60)
    left = await stage.lag()
    async with stage.orchestrated():
        await stage.kafka("kill")
        await asyncio.sleep(120)
        await stage.kafka("start")
        back_s = await stage.view.consuming(since=time.monotonic(), within_s=30)
    assert not stage.ended, f"workers did not wait, but ended with {stage.ended}"
    return f"{left} before; consuming {back_s:.1f} s after its return"


async def leader_crashes(stage: Stage, n: int = 2) -> str:
    """kill -9 of the broker that leads partition 0, of three; it is back before the next one goes."""
    for _ in range(2):
        stage.workers.start()
    await stage.view.settled(within_s=60)
    left, killed = await stage.lag(), []
    async with stage.orchestrated():
        for _ in range(n):
            leader = await leader_of(stage.settings, stage.settings.topics.predictions)
            await stage.kafka("kill", "--node", str(leader))
            killed.append(leader)
            await asyncio.sleep(stage.random.uniform(6, 9))
            await stage.kafka("start", "--node", str(leader))
            await asyncio.sleep(stage.random.uniform(2, 4))
    return f"nodes {killed} killed, {left} before"


async def leader_of(settings: Settings, topic: str) -> int:
    """Number of the node that leads partition 0 of a topic, which must have three replicas."""
    async with opened(AIOKafkaAdminClient, settings.kafka) as admin:
        (description,) = await admin.describe_topics([topic])
    (partition,) = [each for each in description["partitions"] if each["partition"] == 0]
    assert len(partition["replicas"]) == 3
    return int(partition["leader"])


async def storm(stage: Stage) -> str:
    """Add or remove a worker every 1.5 to 4 s for a minute."""
    stage.workers.start()
    started, changes = time.monotonic(), 0
    while time.monotonic() - started < 60:
        await asyncio.sleep(stage.random.uniform(1.5, 4))
        if len(stage.workers.running) > 1 and stage.random.random() < 0.5:
            code = await asyncio.to_thread(stage.workers.leave, stage.random.choice(stage.workers.running))
            assert code == 0, f"exit code {code} at SIGTERM"
        elif len(stage.workers.running) < 4:
            stage.workers.start()
        changes += 1
        await stage.replace_dead()
    since = time.monotonic()
    left = await stage.lag()
    settled_s = await stage.view.consuming(since, within_s=30)
    return f"{changes} changes; consuming {settled_s:.1f} s after the last one, {left}"


async def scaling(stage: Stage) -> str:
    """One worker, four, one; a kill while there are four."""
    stage.workers.start()
    await asyncio.sleep(5)
    for _ in range(3):
        stage.workers.start()
    await asyncio.sleep(8)
    stage.workers.kill(stage.random.choice(stage.workers.running))
    await asyncio.sleep(2)
    stage.workers.start()
    for process in stage.workers.running[:3]:
        code = await asyncio.to_thread(stage.workers.leave, process)
        assert code == 0, f"exit code {code} at SIGTERM"
    return "1 -> 4 -> 1, 1 kill"


async def terms(stage: Stage, n: int = 20) -> str:
    """SIGTERM again and again; the worker must leave with 0 within 25 s."""
    slowest = 0.0
    stage.workers.start()
    for _ in range(n):
        stage.workers.start()
        await asyncio.sleep(stage.random.uniform(1, 4))
        started = time.monotonic()
        code = await asyncio.to_thread(stage.workers.leave, stage.workers.running[0])
        assert code == 0, f"exit code {code} at SIGTERM"
        slowest = max(slowest, time.monotonic() - started)
    return f"{n} stops, slowest {slowest:.1f} s"


async def few_terms(stage: Stage) -> str:
    """As above, four times."""
    return await terms(stage, 4)


SLOW = {"DRIFTLINE_WORKER__MAX_BATCH_RECORDS": "500"}
"""So that there is something left to consume after a minute."""

FAULTS = (
    Fault("calm-quick", "no fault", EQUAL, calm),
    Fault("kill", "kill -9 of a random worker every 3-8 s, 4 workers, 30 kills", EQUAL, kills, seeds=3),
    Fault(
        "kill-quick",
        "kill -9 of a random worker every 3-8 s, 4 workers, 6 kills, every second commit lost",
        EQUAL,
        few_kills,
        tampered="lost_commits",
    ),
    Fault(
        "kill-control",
        "control: the same with 6 kills, every second commit lost, and the offset check switched off",
        "must differ",
        few_kills,
        within_s=30.0,
        must_show="verdicts: .*[1-9][0-9]* different",
        tampered="no_offset_check",
        log=small_log,
    ),
    Fault("pause", "SIGSTOP for 1.5 x session timeout, 10 times", EQUAL, pauses, waits=True),
    Fault("pause-quick", "SIGSTOP for 1.5 x session timeout, twice", EQUAL, few_pauses),
    Fault("broker", "broker kill -9 and restart, 4 times", EQUAL, broker_crashes),
    Fault("broker-quick", "broker kill -9 and restart, once", EQUAL, broker_crash),
    Fault(
        "broker-away",
        "broker away for 2 minutes",
        f"{EQUAL}, no worker ends, consuming within 30 s of its return",
        broker_away,
        waits=True,
    ),
    Fault("leader", "the leader of 3 brokers kill -9, twice", EQUAL, leader_crashes, brokers=3),
    Fault(
        "storm",
        "add or remove a worker every 1.5-4 s for 60 s",
        f"{EQUAL}, consuming within 30 s of the last change",
        storm,
        environment=SLOW,
    ),
    Fault("scale", "1 -> 4 -> 1 workers, kill -9 of one", EQUAL, scaling),
    Fault("term", "SIGTERM 20 times", f"{EQUAL}, exit 0 within 25 s", terms, waits=True),
    Fault("term-quick", "SIGTERM 4 times", f"{EQUAL}, exit 0 within 25 s", few_terms),
)
