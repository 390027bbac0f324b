"""librdkafka's mock cluster through its C interface (rdkafka_mock.h).

The interface is marked experimental there, so it is spelt out in one place, and the package that brings the library is
pinned in pyproject.toml.
"""

import ctypes
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

    def push_errors(self, api_key: int, codes: list[int]) -> None:
        """Let the next ``len(codes)`` requests of that kind fail."""
        array = (ctypes.c_int * len(codes))(*codes)
        self._rdkafka.rd_kafka_mock_push_request_errors_array(self._cluster, api_key, len(codes), array)

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

# Result and arguments of each function; without them ctypes would cut 64-bit pointers.
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "rd_kafka_conf_new": (HANDLE,),
    "rd_kafka_conf_set": (NUMBER, HANDLE, TEXT, TEXT, TEXT, SIZE),
    "rd_kafka_new": (HANDLE, NUMBER, HANDLE, TEXT, SIZE),
    "rd_kafka_err2str": (TEXT, NUMBER),
    "rd_kafka_mock_cluster_new": (HANDLE, HANDLE, NUMBER),
    "rd_kafka_mock_cluster_bootstraps": (TEXT, HANDLE),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, HANDLE, ctypes.c_int32),
    "rd_kafka_mock_topic_create": (NUMBER, HANDLE, TEXT, NUMBER, NUMBER),
    "rd_kafka_mock_push_request_errors_array": (None, HANDLE, ctypes.c_int16, SIZE, ctypes.POINTER(NUMBER)),
    "rd_kafka_mock_broker_set_down": (NUMBER, HANDLE, ctypes.c_int32),
    "rd_kafka_mock_broker_set_up": (NUMBER, HANDLE, ctypes.c_int32),
}
