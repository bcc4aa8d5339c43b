"""A cluster as it is found at the start: what is there, and what this client may do there."""

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, Self

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ClusterMetadata,
    ConfigResource,
    NewTopic,
)

from worker.errors import BrokerError
from worker.kafka.connection import Connection
from worker.kafka.diagnosis import find_problem, last_reason
from worker.kafka.permissions import CLUSTER, Permission, refusal

__all__ = ["Cluster"]

FIRST_TRY_S = 1.0
CONNECT_S = 7.0
"""With the diagnosis afterwards and the worker's own start it stays below 15 seconds."""
ASK_S = 10.0
DEFAULT_MAX_MESSAGE_BYTES = 1_000_000

NOT_ALLOWED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}


class Cluster:
    """An administrator's view of a cluster, with the rights of a connection's user.

    A context that lets go of the cluster at its end: a client whose threads still shake hands by
    TLS when the process ends makes it crash.

    Attributes:
        id: What the cluster calls itself.
        hosts: Where it was found, `host:port`, comma-separated.
    """

    def __init__(self, connection: Connection, admin: AdminClient, found: ClusterMetadata) -> None:
        self._connection = connection
        self._admin = admin
        self.id = str(found.cluster_id)
        self.hosts = connection.hosts
        self._topics = set(found.topics)
        self._has_controller = found.controller_id in found.brokers
        """Not so in the embedded Kafka, which therefore answers metadata requests only."""

    @classmethod
    def connect(cls, connection: Connection, timeout_s: float = CONNECT_S) -> Self:
        """Return the cluster, once it has answered.

        Raises:
            BrokerError: it does not; says which setting is wrong where that can be found out.
        """
        errors: list[KafkaError] = []
        config = {**connection.for_confluent(), "error_cb": errors.append, "log_level": 0}
        with ExitStack() as on_failure:
            admin = on_failure.enter_context(AdminClient(config))
            found = first_answer(admin, connection, errors, timeout_s)
            on_failure.pop_all()
        return cls(connection, admin, found)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._admin.__exit__(None, None, None)

    def has_topic(self, topic: str) -> bool:
        """Whether a topic is there, as far as this user may know."""
        return topic in self._topics

    def prepare(
        self, permissions: Sequence[Permission], partitions: Mapping[str, int], replication: int
    ) -> list[str]:
        """Check what this user may do, create the topics that are missing, return their names.

        Args:
            permissions: What this user has to be allowed to do.
            partitions: Topics, and how many partitions each gets where it is missing.
            replication: Replication factor of a topic that is created.

        Raises:
            BrokerError: a topic cannot be created, or something is not allowed; names all that
                is not.
        """
        denied = self._denied(permissions)
        unseen = {one.name for one in denied if one.resource == "topic"}
        missing = [name for name in partitions if name not in self._topics | unseen]
        created, is_allowed = self._create(missing, partitions, replication)
        if not is_allowed:
            denied.add(Permission("cluster", CLUSTER, "Create"))
        denied |= self._denied([one for one in permissions if one.name in created])
        if denied:
            raise refusal(self._connection, denied)
        return created

    def _create(
        self, missing: Sequence[str], partitions: Mapping[str, int], replication: int
    ) -> tuple[list[str], bool]:
        """Create topics; return those that this call has created, and whether it was allowed."""
        if not missing:
            return [], True
        topics = [NewTopic(name, partitions[name], replication) for name in missing]
        futures = self._admin.create_topics(topics, operation_timeout=ASK_S)
        codes = {name: creation_error(name, future) for name, future in futures.items()}
        self._topics.update(name for name, code in codes.items() if code not in NOT_ALLOWED)
        created = [name for name, code in codes.items() if code is None]
        return created, not NOT_ALLOWED & set(codes.values())

    def _denied(self, permissions: Sequence[Permission]) -> set[Permission]:
        """Return what this user is not allowed to do; what cannot be known counts as allowed."""
        if not self._has_controller or not permissions:
            return set()
        options: dict[str, Any] = {
            "include_authorized_operations": True,
            "request_timeout": ASK_S,
        }
        futures: dict[tuple[str, str], Future[Any]] = {}
        if topics := names_of("topic", permissions):
            found = self._admin.describe_topics(TopicCollection(topics), **options)
            futures |= {("topic", name): future for name, future in found.items()}
        if groups := names_of("group", permissions):
            found = self._admin.describe_consumer_groups(groups, **options)
            futures |= {("group", name): future for name, future in found.items()}
        allowed = {key: allowed_operations(future) for key, future in futures.items()}
        return {
            one
            for one in permissions
            if (operations := allowed.get((one.resource, one.name))) is not None
            and one.operation.upper() not in operations
        }

    def max_message_bytes(self, topic: str) -> int:
        """Return what a topic takes in one batch; Kafka's default where it may not be asked."""
        if not self._has_controller:
            return DEFAULT_MAX_MESSAGE_BYTES
        resource = ConfigResource("topic", topic)
        try:
            found = self._admin.describe_configs([resource], request_timeout=ASK_S)
            return int(found[resource].result()["max.message.bytes"].value)
        except (KafkaException, KeyError):  # without the right to
            return DEFAULT_MAX_MESSAGE_BYTES


def first_answer(
    admin: AdminClient, connection: Connection, errors: Sequence[KafkaError], timeout_s: float
) -> ClusterMetadata:
    """Ask a cluster what there is until it answers; `errors` are those that the client reports.

    Raises:
        BrokerError: as `Cluster.connect` does.
    """
    deadline = time.monotonic() + timeout_s
    try_s = min(FIRST_TRY_S, timeout_s)
    while True:
        try:
            return admin.list_topics(timeout=try_s)
        except KafkaException:
            admin.poll(0)  # delivers what error_cb gets
        try_s = deadline - time.monotonic()
        if problem := find_problem(connection, errors, is_final=try_s <= 0):
            raise BrokerError(problem)
        if try_s <= 0:
            break
    raise BrokerError(
        f"KAFKA_HOST: no broker answers at {connection.hosts!r} within {timeout_s:g} s "
        f"({last_reason(errors)}); start one (scripts/start_kafka.sh) or correct the address"
    )


def names_of(resource: str, permissions: Iterable[Permission]) -> list[str]:
    """Return the names of one kind of resource, each once."""
    return list(dict.fromkeys(one.name for one in permissions if one.resource == resource))


def allowed_operations(future: Future[Any]) -> set[str] | None:
    """Return the operations that the broker allows, None where it does not say."""
    try:
        operations = future.result().authorized_operations
    except KafkaException as error:
        return set() if error.args[0].code() in NOT_ALLOWED else None
    return {operation.name for operation in operations} if operations else None


def creation_error(name: str, future: Future[None]) -> int | None:
    """Return None for a topic that was created, else why it was not: it is there, or not allowed.

    Raises:
        BrokerError: it was not for another reason.
    """
    try:
        future.result()
    except KafkaException as error:
        code = int(error.args[0].code())
        if code in NOT_ALLOWED or code == KafkaError.TOPIC_ALREADY_EXISTS:  # another was faster
            return code
        raise BrokerError(
            f"topic {name!r} is missing and the broker refuses to create it: "
            f"{error.args[0].str()}; create it by hand or correct DARKROOM_REPLICATION"
        ) from error
    return None
