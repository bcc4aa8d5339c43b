"""The Kafka of a bridge as it is at the start: its id, its topics and their limits."""

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

from worker.bridge.errors import BridgeError
from worker.bridge.routes import Route
from worker.kafka.connection import Connection
from worker.kafka.topics import create_missing

__all__ = ["Cluster"]

TIMEOUT_S = 10.0
DEFAULT_MAX_MESSAGE_BYTES = 1_000_000


class Cluster:
    """Answers the questions that routes have about a Kafka before they start."""

    def __init__(self, connection: Connection, *, partitions: int, replication: int) -> None:
        """Ask the cluster for its id and topics.

        Args:
            connection: How to reach the cluster.
            partitions: Number of partitions of a topic that is created.
            replication: Replication factor of a topic that is created.

        Raises:
            BridgeError: no broker answers.
        """
        self._connection = connection
        self._admin = AdminClient({**connection.for_confluent(), "log_level": 2})
        self._partitions, self._replication = partitions, replication
        try:
            found = self._admin.list_topics(timeout=TIMEOUT_S)
        except KafkaException as error:
            raise BridgeError(
                f"the bridge's Kafka at {self._connection.hosts} does not answer: "
                f"{error.args[0].str()}; start it, or correct KAFKA_HOST"
            ) from error
        self.id = str(found.cluster_id)
        self._topics = set(found.topics)
        self._can_describe = found.controller_id in found.brokers  # not the embedded Kafka

    def place_of(self, topic: str) -> str:
        """Return a topic's name among all clusters, for origins and hops."""
        return f"kafka/{self.id}/{topic}"

    def require_topic(self, route: Route) -> None:
        """Check that a route's topic exists, or create it if the route allows that.

        Raises:
            BridgeError: it does not exist and may not be created; says how to create it.
            BrokerError: the broker refuses to create it.
        """
        topic = route.kafka_topic
        if topic in self._topics:
            return
        if not route.create:
            raise BridgeError(
                f"route {route.name}: Kafka has no topic {topic!r}; create it (kafka-topics.sh "
                f"--bootstrap-server {self._connection.hosts} --create --topic {topic}) or set "
                "create = true on the route"
            )
        create_missing(self._connection, {topic: self._partitions}, self._replication)
        self._topics.add(topic)

    def max_message_bytes(self, topic: str) -> int:
        """Return the most bytes of one batch; Kafka's default for a topic that hides it."""
        if not self._can_describe:
            return DEFAULT_MAX_MESSAGE_BYTES
        resource = ConfigResource("topic", topic)
        try:
            found = self._admin.describe_configs([resource], request_timeout=TIMEOUT_S)
            return int(found[resource].result()["max.message.bytes"].value)
        except (KafkaException, KeyError):  # without the permission to describe it
            return DEFAULT_MAX_MESSAGE_BYTES
