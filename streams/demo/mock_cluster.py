"""librdkafka's mock cluster through its C interface (rdkafka_mock.h).

The interface is marked experimental there, so it is spelt out in one place, and the package that brings the library is
pinned in pyproject.toml.
"""

import ctypes
import json
import sys
from collections.abc import Callable
from typing import Any


class MockCluster:
    """librdkafka's mock cluster through its C interface (rdkafka_mock.h), on the child's side.

    Parameters
    ----------
    library
        Path of librdkafka's shared library.
    brokers
        Number of nodes.

    Raises
    ------
    OSError
        If the library does not load or refuses.
    AttributeError
        If the library is too old or too new to have the functions in :data:`SIGNATURES`.
    """

    def __init__(self, library: str, brokers: int) -> None:
        self._rdkafka = _load(library)
        self._brokers = brokers
        reason = ctypes.create_string_buffer(512)
        conf = self._rdkafka.rd_kafka_conf_new()
        # Otherwise it warns that nobody told it where Kafka is.
        self._rdkafka.rd_kafka_conf_set(conf, b"log_level", b"3", reason, len(reason))
        client = self._rdkafka.rd_kafka_new(PRODUCER, conf, reason, len(reason))
        if not client:
            raise OSError(reason.value.decode())
        self._cluster = self._rdkafka.rd_kafka_mock_cluster_new(client, brokers)
        if not self._cluster:
            raise OSError(f"no mock cluster of {brokers} nodes")
        # By default the first member of a group waits 3 s for more.
        self._rdkafka.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)

    def bootstrap_servers(self) -> str:
        """Return the addresses of the nodes."""
        return str(self._rdkafka.rd_kafka_mock_cluster_bootstraps(self._cluster).decode())

    def create_topic(self, name: str, partitions: int) -> None:
        """Make a topic with a replica on every node."""
        self._check(self._rdkafka.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, self._brokers))

    def push_errors(self, node: int, api_key: int, codes: list[int], delay_ms: int) -> None:
        """Let a node's next ``len(codes)`` requests of that kind fail, and be answered so much later."""
        push = self._rdkafka.rd_kafka_mock_broker_push_request_error_rtts
        for code in codes:
            self._check(push(self._cluster, node, api_key, 1, NUMBER(code), NUMBER(delay_ms)))

    def pending_errors(self, node: int, api_key: int) -> int:
        """Return how many errors of :meth:`push_errors` have not met a request yet."""
        count = ctypes.c_size_t()
        found = self._rdkafka.rd_kafka_mock_broker_error_stack_cnt
        self._check(found(self._cluster, node, api_key, ctypes.byref(count)))
        return count.value

    def move_leader(self, topic: str, partition: int, node: int) -> None:
        """Make a node the leader of a partition."""
        move = self._rdkafka.rd_kafka_mock_partition_set_leader
        self._check(move(self._cluster, topic.encode(), partition, node))

    def move_coordinator(self, group: str, node: int) -> None:
        """Make a node the coordinator of a consumer group."""
        move = self._rdkafka.rd_kafka_mock_coordinator_set
        self._check(move(self._cluster, b"group", group.encode(), node))

    def set_down(self, node: int) -> None:
        """Disconnect a node."""
        self._check(self._rdkafka.rd_kafka_mock_broker_set_down(self._cluster, node))

    def set_up(self, node: int) -> None:
        """Connect a node again."""
        self._check(self._rdkafka.rd_kafka_mock_broker_set_up(self._cluster, node))

    def _check(self, code: int) -> None:
        if code:
            raise OSError(self._rdkafka.rd_kafka_err2str(code).decode())


def _load(library: str) -> ctypes.CDLL:
    rdkafka = ctypes.CDLL(library)
    for name, (result, *arguments) in SIGNATURES.items():
        function = getattr(rdkafka, name)
        function.restype, function.argtypes = result, arguments
    return rdkafka


PRODUCER = 0  # rd_kafka_type_t
NUMBER, HANDLE, TEXT, SIZE = ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t

# Result and arguments of each function; without them ctypes would cut 64-bit pointers. Of a variadic one the fixed
# arguments: the others are passed by another convention on some machines.
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "rd_kafka_conf_new": (HANDLE,),
    "rd_kafka_conf_set": (NUMBER, HANDLE, TEXT, TEXT, TEXT, SIZE),
    "rd_kafka_new": (HANDLE, NUMBER, HANDLE, TEXT, SIZE),
    "rd_kafka_err2str": (TEXT, NUMBER),
    "rd_kafka_mock_cluster_new": (HANDLE, HANDLE, NUMBER),
    "rd_kafka_mock_cluster_bootstraps": (TEXT, HANDLE),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, HANDLE, ctypes.c_int32),
    "rd_kafka_mock_topic_create": (NUMBER, HANDLE, TEXT, NUMBER, NUMBER),
    "rd_kafka_mock_broker_push_request_error_rtts": (NUMBER, HANDLE, ctypes.c_int32, ctypes.c_int16, SIZE),
    "rd_kafka_mock_broker_error_stack_cnt": (NUMBER, HANDLE, ctypes.c_int32, ctypes.c_int16, ctypes.POINTER(SIZE)),
    "rd_kafka_mock_partition_set_leader": (NUMBER, HANDLE, TEXT, ctypes.c_int32, ctypes.c_int32),
    "rd_kafka_mock_coordinator_set": (NUMBER, HANDLE, TEXT, TEXT, ctypes.c_int32),
    "rd_kafka_mock_broker_set_down": (NUMBER, HANDLE, ctypes.c_int32),
    "rd_kafka_mock_broker_set_up": (NUMBER, HANDLE, ctypes.c_int32),
}


def main(library: str, brokers: int) -> None:
    """Run a mock cluster that obeys standard input, and end when that ends: with the parent, however it ended.

    A request is a line ``[call, argument, ...]``, its answer a line ``{"result": ...}`` or ``{"error": ...}``. One more
    answer, with the bootstrap address, comes unasked at the start.

    Parameters
    ----------
    library
        Path of librdkafka's shared library.
    brokers
        Number of nodes.
    """
    try:
        cluster = MockCluster(library, brokers)
    except (OSError, AttributeError) as error:
        _say(error=str(error))
        return
    _say(result=cluster.bootstrap_servers())
    for line in sys.stdin:
        call, *arguments = json.loads(line)
        try:
            result = CALLS[call](cluster, *arguments)
        except OSError as error:
            _say(error=str(error))
        else:
            _say(result="done" if result is None else str(result))


def _say(**answer: str) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


CALLS: dict[str, Callable[..., int | None]] = {
    "create_topic": MockCluster.create_topic,
    "push_errors": MockCluster.push_errors,
    "pending_errors": MockCluster.pending_errors,
    "move_leader": MockCluster.move_leader,
    "move_coordinator": MockCluster.move_coordinator,
    "set_down": MockCluster.set_down,
    "set_up": MockCluster.set_up,
}

if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
