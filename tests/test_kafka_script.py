from __future__ import annotations

import asyncio
import fcntl
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).parents[1] / "scripts" / "kafka"


def call(directory: Path, command: str, *options: str) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, str(SCRIPT), command, "--dir", str(directory), *options]
    return subprocess.run(whole, capture_output=True, text=True, check=False)


def succeed(directory: Path, command: str, *options: str) -> str:
    ended = call(directory, command, *options)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A cluster's directory; whatever a failing test left running there is stopped."""
    yield tmp_path / "cluster"
    succeed(tmp_path / "cluster", "down")


async def create_topic(bootstrap_servers: str, replicas: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic("predictions", num_partitions=2, replication_factor=replicas)])
    finally:
        await admin.close()


async def produce(bootstrap_servers: str, numbers: range) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all") as producer:
        for number in numbers:
            await producer.send_and_wait("predictions", b"%d" % number, partition=number % 2)


async def consume(bootstrap_servers: str, count: int) -> list[int]:
    consumer = AIOKafkaConsumer(
        "predictions", bootstrap_servers=bootstrap_servers, group_id="readers", auto_offset_reset="earliest"
    )
    async with consumer:
        return sorted([int((await consumer.getone()).value) for _ in range(count)])


async def replicas_of_offsets_topic(bootstrap_servers: str) -> list[int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        (topic,) = await admin.describe_topics(["__consumer_offsets"])
        return sorted(topic["partitions"][0]["replicas"])
    finally:
        await admin.close()


def processes_of(directory: Path) -> list[str]:
    """Command lines of this machine's processes that name the directory (Linux)."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_text(errors="replace"))
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile
    return [line for line in lines if str(directory) in line]


@pytest.mark.kafka
@pytest.mark.usefixtures("java_and_maven")
def test_a_killed_broker_starts_again_with_its_records(directory: Path) -> None:
    bootstrap_servers = succeed(directory, "up", "--port", "0").strip()
    asyncio.run(create_topic(bootstrap_servers, replicas=1))
    asyncio.run(produce(bootstrap_servers, range(50)))
    assert succeed(directory, "up").strip() == bootstrap_servers  # it runs already
    assert call(directory, "up", "--brokers", "2").returncode == 2
    assert "running" in succeed(directory, "status")
    assert len(processes_of(directory)) == 1

    succeed(directory, "kill")
    stopped = call(directory, "status")
    assert (stopped.returncode, "stopped" in stopped.stdout) == (1, True)
    assert not processes_of(directory)

    succeed(directory, "start")
    asyncio.run(produce(bootstrap_servers, range(50, 60)))
    assert asyncio.run(consume(bootstrap_servers, 60)) == list(range(60))

    succeed(directory, "down")
    assert not processes_of(directory)


@pytest.mark.kafka
@pytest.mark.usefixtures("java_and_maven")
def test_three_brokers_go_on_without_one(directory: Path) -> None:
    bootstrap_servers = succeed(directory, "up", "--port", "0", "--brokers", "3").strip()
    asyncio.run(create_topic(bootstrap_servers, replicas=3))
    asyncio.run(produce(bootstrap_servers, range(10)))
    assert asyncio.run(consume(bootstrap_servers, 10)) == list(range(10))
    assert asyncio.run(replicas_of_offsets_topic(bootstrap_servers)) == [1, 2, 3]

    succeed(directory, "kill", "--node", "1")
    assert call(directory, "status").stdout.count("running") == 2
    asyncio.run(produce(bootstrap_servers, range(10, 20)))
    succeed(directory, "start", "--node", "1")
    assert asyncio.run(consume(bootstrap_servers, 10)) == list(range(10, 20))

    succeed(directory, "down")
    assert not processes_of(directory)


@pytest.mark.kafka
def test_the_session_broker_answers(kafka: str) -> None:
    async def topics() -> set[str]:
        async with AIOKafkaConsumer(bootstrap_servers=kafka) as consumer:
            return {str(topic) for topic in await consumer.topics()}

    assert "a-topic-that-nobody-made" not in asyncio.run(topics())


def test_a_taken_port_is_named_before_anything_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = call(tmp_path, "up", "--port", str(port))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"port {port} is taken" in ended.stderr
    assert not (tmp_path / "cluster.json").exists()


@pytest.mark.parametrize(("present", "remedy"), [([], "openjdk-17"), (["java"], "install Maven")])
def test_a_missing_program_is_named_with_its_remedy(tmp_path: Path, present: list[str], remedy: str) -> None:
    programs, copy = tmp_path / "bin", tmp_path / "project"
    programs.mkdir()
    for name in present:
        (programs / name).touch(mode=0o755)
    # A copy of the project's scripts, because the jars of this one may be there already.
    for part in ("scripts/kafka", "scripts/kafka_node.py", "deploy/kafka/pom.xml", "deploy/kafka/server.properties"):
        (copy / part).parent.mkdir(parents=True, exist_ok=True)
        (copy / part).write_bytes((SCRIPT.parents[1] / part).read_bytes())
    command = [sys.executable, str(copy / "scripts" / "kafka"), "up", "--dir", str(tmp_path / "cluster"), "--port", "0"]
    ended = subprocess.run(command, env={"PATH": str(programs)}, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert remedy in ended.stderr


@pytest.mark.parametrize("command", ["kill", "start", "status"])
def test_without_a_cluster_there_is_nothing_to_do(tmp_path: Path, command: str) -> None:
    ended = call(tmp_path, command)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "begin with `up`" in ended.stderr


def test_a_wrong_call_is_status_two(tmp_path: Path) -> None:
    assert call(tmp_path, "up", "--brokers", "0").returncode == 2
    assert call(tmp_path, "restart").returncode == 2


@pytest.mark.parametrize("command", ["kill", "down"])
@pytest.mark.parametrize("lock_is_held", [False, True])
def test_a_stranger_under_the_old_process_id_is_not_touched(tmp_path: Path, command: str, lock_is_held: bool) -> None:  # noqa: FBT001
    """Whether the pid file is merely stale, or even looks alive, its process is not a node: it survives."""
    (tmp_path / "cluster.json").write_text(json.dumps([{"node_id": 1, "port": 1, "controller_port": 2}]))
    pid_file = tmp_path / "node-1" / "pid"
    pid_file.parent.mkdir()
    with (
        pid_file.open("w") as file,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger,
    ):
        file.write(str(stranger.pid))
        file.flush()
        if lock_is_held:
            fcntl.flock(file, fcntl.LOCK_EX)
        ended = call(tmp_path, command)
        stranger.communicate(b"\n")
    assert stranger.returncode == 0  # not -SIGKILL: it read its line and left
    assert ended.returncode == int(lock_is_held)
    assert ("not touched" in ended.stderr) == lock_is_held
