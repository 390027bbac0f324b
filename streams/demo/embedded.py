"""An embedded Kafka broker for the demo and for quick tests: no Java, no Docker, milliseconds to start.

It is librdkafka's mock cluster, out of the shared library that the confluent-kafka wheel ships, in a process of its own.
It speaks the real protocol (produce, fetch, consumer groups, offsets) over real sockets, and it can be told to fail.

Its limits, so that nobody claims from it what only a real broker shows (scripts/kafka runs one):

- it keeps at most 5 MiB and 100,000 batches per partition and **silently drops the oldest** beyond them;
- nothing is compacted, and nothing outlives the process;
- it answers no CreateTopics, no ACL, no SASL and no TLS: topics are made here, and an admin client can't connect. Faust
  needs ``topic_allow_declare=False`` and ``topic_disable_leader=True``;
- a topic that was not made here comes into being, with 4 partitions, when a client asks for it;
- a group's first member is served at once, but every later rebalance takes the session timeout less one second, even when
  the group was empty: 9 s with a consumer's usual 10 s, 100 ms with 1.1 s;
- aborted transactions are delivered to ``read_committed`` consumers.
"""

from __future__ import annotations

import ctypes.util
import importlib.util
import json
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from driftline.detectors.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

STOP_TIMEOUT_S = 10.0
LIBRARY_PATTERNS = (
    "../confluent_kafka.libs/librdkafka[-.]*",  # the Linux wheel
    ".dylibs/librdkafka[-.]*",  # the macOS wheel
)


@contextmanager
def embedded_broker(topics: Mapping[str, int], *, brokers: int = 1) -> Iterator[EmbeddedBroker]:
    """Run an embedded broker for the length of a ``with`` statement.

    It ends with the statement, and also when this process dies in whatever way.

    Parameters
    ----------
    topics
        Number of partitions of each topic to make.
    brokers
        Number of nodes; their ids are 1 to `brokers`, and every partition is on each of them.

    Yields
    ------
    EmbeddedBroker
        The running broker.

    Raises
    ------
    OperatorError
        If librdkafka is not installed or does not load.

    Examples
    --------
    >>> with embedded_broker({"predictions": 4}) as broker:
    ...     broker.bootstrap_servers
    '127.0.0.1:...'
    """
    library = find_library()
    command = [sys.executable, "-m", "driftline.streams.demo.mock_cluster", str(library), str(brokers)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as child:  # noqa: S603
        try:
            broker = EmbeddedBroker(child)
            for name, partitions in topics.items():
                broker.create_topic(name, partitions)
            yield broker
        finally:
            _end(child)


def find_library() -> Path:
    """Return the path of the librdkafka that the confluent-kafka package brings or is linked with.

    Raises
    ------
    OperatorError
        If there is none.
    """
    spec = importlib.util.find_spec("confluent_kafka")  # finding, not importing, which would take 50 ms
    if spec is None or spec.origin is None:
        raise OperatorError("the embedded broker needs confluent-kafka: pip install 'driftline[embedded]'")
    package = Path(spec.origin).parent
    for pattern in LIBRARY_PATTERNS:
        for found in sorted(package.glob(pattern)):
            return found.resolve()
    linked = ctypes.util.find_library("rdkafka")  # confluent-kafka built from source uses the system's
    if linked is None:
        raise OperatorError(
            f"no librdkafka beside {package}: install confluent-kafka's wheel, pip install 'driftline[embedded]'"
        )
    return Path(linked)


class EmbeddedBroker:
    """A running embedded broker, as :func:`embedded_broker` yields it.

    Attributes
    ----------
    bootstrap_servers : str
        What a client connects to: ``host:port``, separated by commas.
    """

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self.bootstrap_servers = self._answer("start")

    def create_topic(self, name: str, partitions: int) -> None:
        """Make a topic.

        Parameters
        ----------
        name
            The topic.
        partitions
            How many partitions it gets.
        """
        self._call("create_topic", name, partitions)

    def push_errors(self, api: str, codes: Sequence[int], *, node: int = 1, delay_ms: int = 0) -> None:
        """Let a node's next requests of one kind fail, one error each.

        Parameters
        ----------
        api
            A request of Kafka's protocol, a key of :data:`APIS`.
        codes
            Error codes of Kafka's protocol, 6 for NOT_LEADER_OR_FOLLOWER for example; 0 lets a request pass, and -195
            (librdkafka's own) closes the connection instead of an answer.
        node
            Its id; the first is 1.
        delay_ms
            Milliseconds by which the answers, not what is done, come late.

        Raises
        ------
        ValueError
            If the mock cluster does not know `api`.
        """
        self._call("push_errors", node, _api_key(api), list(codes), delay_ms)

    def pending_errors(self, api: str, *, node: int = 1) -> int:
        """Return how many errors have not met a request yet.

        Parameters
        ----------
        api
            A request of Kafka's protocol, a key of :data:`APIS`.
        node
            Its id; the first is 1.

        Raises
        ------
        ValueError
            If the mock cluster does not know `api`.
        """
        return int(self._call("pending_errors", node, _api_key(api)))

    def move_leader(self, topic: str, partition: int, node: int) -> None:
        """Make a node the leader of a partition.

        Parameters
        ----------
        topic, partition
            Which.
        node
            Its id; the first is 1. Without this a leader is chosen at random.
        """
        self._call("move_leader", topic, partition, node)

    def move_coordinator(self, group: str, node: int) -> None:
        """Make a node the coordinator of a consumer group.

        Parameters
        ----------
        group
            The group's name.
        node
            Its id; the first is 1. Without this it follows from the name.
        """
        self._call("move_coordinator", group, node)

    def set_down(self, node: int) -> None:
        """Close a node's connections and take no new ones; it stays leader of its partitions.

        Parameters
        ----------
        node
            Its id; the first is 1.
        """
        self._call("set_down", node)

    def set_up(self, node: int) -> None:
        """Let a node that was down take connections again, at the same port.

        Parameters
        ----------
        node
            Its id; the first is 1.
        """
        self._call("set_up", node)

    def _call(self, name: str, *arguments: object) -> str:
        requests, _ = _pipes(self._child)
        requests.write(json.dumps([name, *arguments]) + "\n")
        requests.flush()
        return self._answer(f"{name} {arguments}")

    def _answer(self, request: str) -> str:
        _, answers = _pipes(self._child)
        answer = json.loads(answers.readline() or '{"error": "its process ended"}')
        if "error" in answer:
            raise OperatorError(f"embedded broker, {request}: {answer['error']}")
        return str(answer["result"])


def _api_key(api: str) -> int:
    if api not in APIS:
        raise ValueError(f"api {api!r} is none of {', '.join(APIS)}")
    return APIS[api]


def _pipes(child: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    if child.stdin is None or child.stdout is None:
        raise TypeError("the child was started without pipes")
    return child.stdin, child.stdout


def _end(child: subprocess.Popen[str]) -> None:
    requests, _ = _pipes(child)
    with suppress(BrokenPipeError):  # it ended first
        requests.close()
    try:
        child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()


# Numbers of requests in Kafka's protocol, as far as the mock cluster answers them.
APIS = {
    "Produce": 0,
    "Fetch": 1,
    "ListOffsets": 2,
    "Metadata": 3,
    "OffsetCommit": 8,
    "OffsetFetch": 9,
    "FindCoordinator": 10,
    "JoinGroup": 11,
    "Heartbeat": 12,
    "LeaveGroup": 13,
    "SyncGroup": 14,
    "InitProducerId": 22,
}
