"""One node of the cluster that scripts/kafka runs: its process, and whether it serves. Standard library only."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator

READY_TIMEOUT_S = 120.0
METADATA_API, METADATA_VERSION, ALL_TOPICS = 3, 1, -1


class Failure(Exception):  # noqa: N818 - the docstring of scripts/kafka speaks of it by this name
    """It did not work (exit status 1)."""


class Misuse(Exception):  # noqa: N818 - likewise
    """The call or the surroundings are wrong (exit status 2); the message names the remedy."""


@dataclass(frozen=True)
class Node:
    """One Kafka process, broker and controller in one."""

    node_id: int
    port: int
    controller_port: int
    home: Path

    @property
    def properties(self) -> Path:
        """The node's configuration."""
        return self.home / "server.properties"

    @property
    def output(self) -> Path:
        """The node's own log, not the topics'."""
        return self.home / "broker.log"

    def pid(self) -> int | None:
        """Return the process id, or None when the node does not run.

        The process itself holds a lock on its pid file (an inherited descriptor), and the system drops it when the
        process dies in whatever way. A stale file, whose number may be a stranger's by now, is thus never believed.
        """
        with self._pid_file() as file:
            return None if _try_lock(file) else int(file.read())

    def spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start the node's process, which outlives the caller."""
        with self._pid_file() as file, self.output.open("ab") as output:
            if not _try_lock(file):
                raise Failure(f"node {self.node_id} runs already")
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[file.fileno()],
                start_new_session=True,  # a Ctrl-C at the terminal is not meant for the broker
            )
            file.truncate(0)
            file.write(str(process.pid))
            return process

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the node's process if it runs, and to no other process whatever the pid file says."""
        pid = self.pid()
        if pid is None:
            return
        command_line = Path(f"/proc/{pid}/cmdline")  # Linux only; elsewhere the lock alone vouches for the process
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            seen = command_line.read_bytes() if command_line.exists() else b""  # also empty: a process about to end
            if seen and os.fsencode(self.properties) not in seen:
                raise Failure(f"process {pid} is not node {self.node_id}: not touched")
            os.kill(pid, number)

    def wait_gone(self, timeout_s: float) -> bool:
        """Return whether the process has ended, its ports and files with it, before the time is over."""
        deadline = time.monotonic() + timeout_s
        while self.pid() is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def wait_ready(self, process: subprocess.Popen[bytes], expected: set[int]) -> None:
        """Return when the node answers and knows all `expected` nodes in service; raises Failure if it never does."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError):  # not yet
                if ask_metadata(self.port).serves(expected):
                    return
            time.sleep(0.05)
        tail = "\n".join(self.output.read_text(errors="replace").splitlines()[-15:])
        what = "is not ready in time" if process.poll() is None else f"ended with status {process.returncode}"
        raise Failure(f"node {self.node_id} {what}; the end of {self.output}:\n{tail}")

    def _pid_file(self) -> IO[str]:
        return (self.home / "pid").open("a+")


@dataclass(frozen=True)
class Metadata:
    """What a broker knows: the live brokers, and each partition as (leader or -1, replicas)."""

    brokers: frozenset[int]
    partitions: tuple[tuple[int, frozenset[int]], ...]

    def serves(self, expected: set[int]) -> bool:
        """Whether all `expected` brokers are in service and each partition whose replicas all live has a leader."""
        leaderless = any(leader < 0 and replicas <= self.brokers for leader, replicas in self.partitions)
        return expected <= self.brokers and not leaderless


def ask_metadata(port: int) -> Metadata:
    """Ask the broker at `port` (an open port alone says little); raises OSError while it can't answer."""
    request = struct.pack(">hhih6si", METADATA_API, METADATA_VERSION, 0, 6, b"script", ALL_TOPICS)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection, connection.makefile("rb") as answer:
        connection.sendall(struct.pack(">i", len(request)) + request)
        head = answer.read(4)
        size = int.from_bytes(head, "big")
        payload = answer.read(size)
    if len(head) < 4 or len(payload) < size:
        raise ConnectionResetError("no whole answer")
    return _read_metadata(_Reader(payload))


class _Reader:
    """Reads Kafka's primitives one after the other."""

    def __init__(self, payload: bytes) -> None:
        self.payload, self.at = payload, 0

    def number(self, code: str) -> int:
        (value,) = struct.unpack_from(f">{code}", self.payload, self.at)
        self.at += struct.calcsize(code)
        return int(value)

    def skip_string(self) -> None:
        length = self.number("h")  # -1: null
        self.at += max(length, 0)

    def count(self) -> range:
        return range(self.number("i"))

    def node_ids(self) -> frozenset[int]:
        return frozenset(self.number("i") for _ in self.count())


def _read_metadata(reader: _Reader) -> Metadata:
    reader.number("i")  # correlation
    brokers = set()
    for _ in reader.count():
        brokers.add(reader.number("i"))
        reader.skip_string()  # host
        reader.number("i")  # port
        reader.skip_string()  # rack
    reader.number("i")  # controller
    partitions = []
    for _ in reader.count():
        reader.number("h")  # the topic's error
        reader.skip_string()  # name
        reader.number("b")  # internal
        for _ in reader.count():
            reader.number("h")  # the partition's error
            reader.number("i")  # partition
            leader = reader.number("i")
            partitions.append((leader, reader.node_ids()))
            reader.node_ids()  # in-sync replicas
    return Metadata(frozenset(brokers), tuple(partitions))


def is_free(port: int) -> bool:
    """Whether nobody listens at the port of this machine's loopback."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: a closing connection is no obstacle
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock of that name and hold it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _try_lock(file: IO[str]) -> bool:
    file.seek(0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
