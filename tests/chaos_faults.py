"""The faults that disturb workers and brokers, then let the workers finish."""

from __future__ import annotations

import asyncio
import signal
import time

from tests.chaos_stage import EQUAL, Fault, Stage


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
    replaced = 0
    for _ in range(n):
        await asyncio.sleep(2)
        process = stage.random.choice(stage.workers.running)
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.5 * stage.settings.worker.session_timeout_s)
        process.send_signal(signal.SIGCONT)
        replaced += await stage.replace_dead()
    return f"{n} pauses, {replaced} workers replaced"


async def few_pauses(stage: Stage) -> str:
    """As above, twice."""
    return await pauses(stage, 2)


async def broker_crashes(stage: Stage, n: int = 4, away_s: float = 0.0) -> str:
    """kill -9 of the broker and a restart on the same log directory."""
    for _ in range(2):
        stage.workers.start()
    replaced = 0
    for _ in range(n):
        await asyncio.sleep(stage.random.uniform(3, 6))
        await stage.kafka("kill")
        await asyncio.sleep(away_s)
        await stage.kafka("start")
        replaced += await stage.replace_dead()
    return f"{n} restarts, {replaced} workers replaced meanwhile"


async def broker_crash(stage: Stage) -> str:
    """As above, once."""
    return await broker_crashes(stage, 1)


async def broker_away(stage: Stage) -> str:
    """The broker is away for two minutes."""
    return await broker_crashes(stage, 1, away_s=120.0)


async def storm(stage: Stage) -> str:
    """Add or remove a worker every 1.5 to 4 s for a minute."""
    stage.workers.start()
    started, changes = time.monotonic(), 0
    while time.monotonic() - started < 60:
        await asyncio.sleep(stage.random.uniform(1.5, 4))
        if len(stage.workers.running) > 1 and stage.random.random() < 0.5:
            process = stage.random.choice(stage.workers.running)
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.wait, 25)
            stage.workers.running.remove(process)
        elif len(stage.workers.running) < 4:
            stage.workers.start()
        changes += 1
        await stage.replace_dead()
    return f"{changes} changes"


async def scaling(stage: Stage) -> str:
    """One worker, four, one."""
    stage.workers.start()
    await asyncio.sleep(5)
    for _ in range(3):
        stage.workers.start()
    await asyncio.sleep(10)
    for process in stage.workers.running[1:]:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 25)
        stage.workers.running.remove(process)
    return "1 -> 4 -> 1"


async def terms(stage: Stage, n: int = 20) -> str:
    """SIGTERM again and again; the worker must leave with 0 within 25 s."""
    slowest, bad = 0.0, 0
    stage.workers.start()
    for _ in range(n):
        stage.workers.start()
        await asyncio.sleep(stage.random.uniform(1, 4))
        process = stage.workers.running.pop(0)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(process.wait, 25)
        slowest, bad = max(slowest, time.monotonic() - started), bad + (code != 0)
    return f"{n} stops, {bad} with another exit code than 0, slowest {slowest:.1f} s"


async def few_terms(stage: Stage) -> str:
    """As above, four times."""
    return await terms(stage, 4)


FAULTS = (
    Fault("calm", "no fault", EQUAL, calm),
    Fault("kill", "kill -9 of a random worker every 3-8 s, 4 workers, 30 kills", EQUAL, kills, seeds=3),
    Fault("kill-quick", "kill -9 of a random worker every 3-8 s, 4 workers, 6 kills", EQUAL, few_kills),
    Fault("pause", "SIGSTOP for 1.5 x session timeout, 10 times", EQUAL, pauses),
    Fault("pause-quick", "SIGSTOP for 1.5 x session timeout, twice", EQUAL, few_pauses),
    Fault("broker", "broker kill -9 and restart, 4 times", EQUAL, broker_crashes),
    Fault("broker-quick", "broker kill -9 and restart, once", EQUAL, broker_crash),
    Fault("broker-away", "broker away for 2 minutes", EQUAL, broker_away),
    Fault("storm", "add or remove a worker every 1.5-4 s for 60 s", EQUAL, storm),
    Fault("scale", "1 -> 4 -> 1 workers", EQUAL, scaling),
    Fault("term", "SIGTERM 20 times", f"{EQUAL}, exit 0 within 25 s", terms),
    Fault("term-quick", "SIGTERM 4 times", f"{EQUAL}, exit 0 within 25 s", few_terms),
)
