"""A Kafka in this process that needs no installation: librdkafka's mock cluster.

It is a real listener that every client can talk to, in memory, and it ends with the process. It
shows that the messages of a program flow; use a real Kafka (`scripts/start_kafka.sh`) to show what
happens in a rebalance, with transactions or after a crash.
"""

import ctypes
import json
import os
import socket
import struct
import time
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Self

from confluent_kafka import KafkaError, cimpl

import trainer
from worker.embedded.front import KafkaFront
from worker.errors import BrokerError

__all__ = ["ApiKey", "EmbeddedKafka", "announce", "find", "withdraw"]

ADDRESS_FILE = "broker.json"
ANSWER_TIMEOUT_S = 1.0
PAUSE_S = 0.001
"""Pause before a request to the mock's thread: at a bad moment a request waits a whole second."""
PRODUCER = 0  # rd_kafka_type_t
CONF_OK = 0  # rd_kafka_conf_res_t


class ApiKey(IntEnum):
    """Requests that errors can be injected into (https://kafka.apache.org/protocol)."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    API_VERSIONS = 18
    INIT_PRODUCER_ID = 22


# The mock offers later versions and does not keep to them: kafka-python 3, which takes the latest
# version on offer, is disconnected in the middle of its join. librdkafka uses no later version.
HIGHEST_VERSION = {
    ApiKey.FETCH: 11,
    ApiKey.METADATA: 8,
    ApiKey.OFFSET_COMMIT: 7,
    ApiKey.OFFSET_FETCH: 5,
    ApiKey.FIND_COORDINATOR: 2,
    ApiKey.JOIN_GROUP: 5,
    ApiKey.HEARTBEAT: 3,
    ApiKey.LEAVE_GROUP: 3,
    ApiKey.SYNC_GROUP: 3,
}


class EmbeddedKafka:
    """A cluster on 127.0.0.1, from `start` to `stop` or inside a `with`.

    Its limits: a partition keeps its last 5 MB or 100,000 messages; clients cannot create topics,
    and an unknown topic is created with 4 partitions at its first use; a rebalance takes almost as
    long as the consumer's session timeout, so use a short one, such as 6 s.
    """

    def __init__(self, brokers: int = 1) -> None:
        """Prepare a cluster of brokers, numbered from 1.

        Raises:
            BrokerError: this installation of confluent-kafka does not offer a mock cluster.
        """
        self._brokers = brokers
        self._library = load_library()
        self._client: int | None = None
        self._cluster: int | None = None
        self._front: KafkaFront | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Open the listeners, each on a free port.

        Raises:
            BrokerError: librdkafka cannot open them.
        """
        if self._client is not None:
            return
        self._client = self._new_client()
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, self._brokers)
        if not self._cluster:
            self.stop()
            raise BrokerError(f"librdkafka cannot start {self._brokers} embedded broker(s)")
        self._ask(self._library.rd_kafka_mock_group_initial_rebalance_delay_ms, 0)
        for api, version in HIGHEST_VERSION.items():
            self._ask(self._library.rd_kafka_mock_set_apiversion, api, 0, version)
        mock = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self._front = KafkaFront(mock.split(","))
        self._front.start()

    def stop(self) -> None:
        """Close the listeners and forget all messages; no thread is left on return."""
        if self._front is not None:
            self._front.stop()
            self._front = None
        if self._cluster is not None:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._cluster = None
        if self._client is not None:
            self._library.rd_kafka_destroy(self._client)
            self._client = None

    @property
    def bootstrap(self) -> str:
        """The address for clients, `host:port`, comma-separated for several brokers."""
        if self._front is None:
            raise not_running()
        return self._front.bootstrap

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Create a topic; a topic that exists stays as it is.

        Raises:
            BrokerError: the name or the number of partitions is refused.
        """
        if partitions < 1:
            raise BrokerError(f"topic {name!r}: {partitions} partitions; a topic needs 1 or more")
        error = self._ask(self._library.rd_kafka_mock_topic_create, name.encode(), partitions, 1)
        if error != KafkaError.TOPIC_ALREADY_EXISTS:
            check(error, f"cannot create topic {name!r} with {partitions} partitions")

    def broker_down(self, broker: int = 1) -> None:
        """Close a broker's connections and refuse new ones until `broker_up`."""
        error = self._ask(self._library.rd_kafka_mock_broker_set_down, broker)
        check(error, f"cannot take broker {broker} down")

    def broker_up(self, broker: int = 1) -> None:
        """Let a broker accept connections again; it has kept its messages."""
        error = self._ask(self._library.rd_kafka_mock_broker_set_up, broker)
        check(error, f"cannot take broker {broker} up")

    def set_rtt_ms(self, rtt_ms: int, broker: int = 1) -> None:
        """Delay every answer of a broker by some milliseconds."""
        error = self._ask(self._library.rd_kafka_mock_broker_set_rtt, broker, rtt_ms)
        check(error, f"cannot set the round-trip time of broker {broker} to {rtt_ms} ms")

    def push_request_errors(self, api: ApiKey, *errors: int) -> None:
        """Answer the next requests of a kind with errors, one each (`KafkaError.X`)."""
        codes = (ctypes.c_int * len(errors))(*errors)
        self._ask(self._library.rd_kafka_mock_push_request_errors_array, api, len(errors), codes)

    def clear_request_errors(self, api: ApiKey) -> None:
        """Forget the errors of a kind that no request has got yet."""
        self._ask(self._library.rd_kafka_mock_clear_request_errors, api)

    def _ask(self, function: Callable[..., int], *arguments: object) -> int:
        """Call a function on the mock's thread, and return its answer."""
        if self._cluster is None:
            raise not_running()
        time.sleep(PAUSE_S)
        return function(self._cluster, *arguments)

    def _new_client(self) -> int:
        """Return the librdkafka handle that carries the cluster; it connects to nothing."""
        reason = ctypes.create_string_buffer(256)
        conf = self._library.rd_kafka_conf_new()
        # Its notices (no bootstrap.servers, idle connections) are about a client that nobody uses.
        self._library.rd_kafka_conf_set(conf, b"log_level", b"2", reason, len(reason))
        client = self._library.rd_kafka_new(PRODUCER, conf, reason, len(reason))
        if not client:
            self._library.rd_kafka_conf_destroy(conf)
            raise BrokerError(f"librdkafka cannot start: {reason.value.decode()}")
        return int(client)


def load_library() -> ctypes.CDLL:
    """Return the librdkafka of confluent-kafka, with the signatures that are used here.

    Raises:
        BrokerError: it does not export the mock cluster.
    """
    # The handle of the extension module also finds the symbols of the library that it is linked to,
    # wherever the wheel or the system keeps that library.
    library = ctypes.CDLL(cimpl.__file__)
    try:
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError as error:
        raise BrokerError(
            f"this confluent-kafka ({cimpl.__file__}) does not export a mock cluster ({error}); "
            "install its wheel from the package index (pip install --force-reinstall "
            "--only-binary :all: confluent-kafka), or set KAFKA_HOST to a real Kafka"
        ) from error
    return library


POINTER, NUMBER, TEXT, SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t
# rdkafka.h and rdkafka_mock.h, librdkafka 2.16
SIGNATURES: dict[str, tuple[type | None, list[type]]] = {
    "rd_kafka_conf_new": (POINTER, []),
    "rd_kafka_conf_destroy": (None, [POINTER]),
    "rd_kafka_conf_set": (NUMBER, [POINTER, TEXT, TEXT, TEXT, SIZE]),
    "rd_kafka_new": (POINTER, [NUMBER, POINTER, TEXT, SIZE]),
    "rd_kafka_destroy": (None, [POINTER]),
    "rd_kafka_mock_cluster_new": (POINTER, [POINTER, NUMBER]),
    "rd_kafka_mock_cluster_destroy": (None, [POINTER]),
    "rd_kafka_mock_cluster_bootstraps": (TEXT, [POINTER]),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [POINTER, ctypes.c_int32]),
    "rd_kafka_mock_set_apiversion": (NUMBER, [POINTER, *[ctypes.c_int16] * 3]),
    "rd_kafka_mock_topic_create": (NUMBER, [POINTER, TEXT, NUMBER, NUMBER]),
    "rd_kafka_mock_broker_set_down": (NUMBER, [POINTER, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_up": (NUMBER, [POINTER, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_rtt": (NUMBER, [POINTER, ctypes.c_int32, NUMBER]),
    "rd_kafka_mock_push_request_errors_array": (
        None,
        [POINTER, ctypes.c_int16, SIZE, ctypes.POINTER(ctypes.c_int)],
    ),
    "rd_kafka_mock_clear_request_errors": (None, [POINTER, ctypes.c_int16]),
}


def not_running() -> BrokerError:
    """Return the error of a call that needs a running broker."""
    return BrokerError("the embedded broker is not running; call start() first")


def check(code: int, problem: str) -> None:
    """Raise BrokerError when the answer of librdkafka is an error."""
    if code:
        raise BrokerError(f"embedded broker: {problem}: {KafkaError(code).str()}")


def announce(logdir: Path, bootstrap: str) -> None:
    """Write the address of the embedded broker of a log directory."""
    content = {"bootstrap": bootstrap, "pid": os.getpid()}
    trainer.write_durably(logdir / ADDRESS_FILE, json.dumps(content).encode())


def withdraw(logdir: Path) -> None:
    """Remove the announcement of this process; that of another process stays."""
    address = read_address(logdir)
    if address is not None and address[1] == os.getpid():
        (logdir / ADDRESS_FILE).unlink(missing_ok=True)


def find(logdir: Path) -> str | None:
    """Return the address of a log directory's embedded broker, None when no broker answers."""
    address = read_address(logdir)
    return address[0] if address is not None and answers(address[0]) else None


def read_address(logdir: Path) -> tuple[str, int] | None:
    """Return the announced (bootstrap, pid), None when there is no readable announcement."""
    try:
        content = json.loads((logdir / ADDRESS_FILE).read_bytes())
        return str(content["bootstrap"]), int(content["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def answers(bootstrap: str) -> bool:
    """Return whether any of the addresses speaks Kafka."""
    return any(speaks_kafka(address) for address in bootstrap.split(","))


def speaks_kafka(address: str) -> bool:
    """Return whether an ApiVersions request is answered; a client would try much longer."""
    host, _, port = address.rpartition(":")
    correlation = os.getpid()
    body = struct.pack(">hhih", ApiKey.API_VERSIONS, 0, correlation, -1)
    try:
        with socket.create_connection((host, int(port)), timeout=ANSWER_TIMEOUT_S) as stream:
            stream.sendall(struct.pack(">i", len(body)) + body)
            answer = stream.recv(8, socket.MSG_WAITALL)
    except (OSError, ValueError, OverflowError):
        return False
    return len(answer) == 8 and struct.unpack(">ii", answer)[1] == correlation
