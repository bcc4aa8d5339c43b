"""Both sides of a bridge: checks the two ends of a route, and connects them by a mirror."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker.bridge.flow.errors import BridgeError
from worker.bridge.flow.pace import Bounds, Pace
from worker.bridge.kafka.sink import KafkaSink
from worker.bridge.kafka.source import KafkaSource
from worker.bridge.kafka_to_pubsub import KafkaToPubSub
from worker.bridge.messages.dead_letters import DeadLetters
from worker.bridge.messages.routes import Route, Step
from worker.bridge.pubsub.client import PubSub
from worker.bridge.pubsub_to_kafka import PubSubToKafka
from worker.kafka.cluster import Cluster
from worker.kafka.permissions import Permission

__all__ = ["Endpoints", "Mirror"]

Mirror = KafkaToPubSub | PubSubToKafka


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """One Kafka and one Pub/Sub.

    Attributes:
        pub_sub: The channel to Pub/Sub.
        cluster: Kafka as it is at the start.
        partitions: Number of partitions of a Kafka topic that is created.
        replication: Replication factor of a Kafka topic that is created.
        kafka_config: confluent-kafka's settings for the connection.
        dead_letters_topic: Where messages go that the other side will never take.
        group: Beginning of the consumer groups' names.
        project: Pub/Sub project of short names.
        pace: The times of each route.
        bounds: The most that each route holds.
    """

    pub_sub: PubSub
    cluster: Cluster
    partitions: int
    replication: int
    kafka_config: Mapping[str, Any]
    dead_letters_topic: str
    group: str
    project: str | None
    pace: Pace
    bounds: Bounds

    def require_topics(self, routes: Sequence[Route]) -> None:
        """Check that the routes may use their Kafka topics, and create those that may be created.

        Raises:
            BridgeError: a topic does not exist and may not be created; says how to create it.
            BrokerError: the broker does not allow a route to use its topic, or refuses to create
                one.
        """
        permissions = [one for route in routes for one in self._permissions(route)]
        new_topics = {route.kafka_topic: self.partitions for route in routes if route.create}
        self.cluster.prepare(permissions, new_topics, self.replication)
        for route in routes:
            if not self.cluster.has_topic(route.kafka_topic):
                raise BridgeError(
                    f"route {route.name}: Kafka has no topic {route.kafka_topic!r}; create it "
                    f"(kafka-topics.sh --bootstrap-server {self.cluster.hosts} --create --topic "
                    f"{route.kafka_topic}) or set create = true on the route"
                )

    def _permissions(self, route: Route) -> Iterator[Permission]:
        yield Permission("topic", route.kafka_topic, "Write" if route.is_inward else "Read")
        if not route.is_inward:
            yield Permission("group", self._group_of(route), "Read")

    def _group_of(self, route: Route) -> str:
        topic = route.topic_path(self.project) or ""
        return f"{self.group}-{route.kafka_topic}-{topic.rpartition('/')[2]}"

    def _place_of(self, route: Route) -> str:
        """Return the name of a route's Kafka topic among all clusters, for origins and hops."""
        return f"kafka/{self.cluster.id}/{route.kafka_topic}"

    def connect(self, route: Route) -> tuple[Mirror, Step]:
        """Check a route's end in Pub/Sub, and return its mirror, which is not running yet.

        Raises:
            BridgeError: the end is missing or cannot be reached; says what to do.
        """
        return self._to_kafka(route) if route.is_inward else self._to_pub_sub(route)

    def _to_kafka(self, route: Route) -> tuple[Mirror, Step]:
        subscription = route.subscription_path(self.project) or ""
        topic = route.topic_path(self.project) if route.create else None
        if topic:
            self.pub_sub.require_topic(topic, create=True)
        source_place = f"pubsub/{self.pub_sub.topic_of(subscription, create_on=topic)}"
        target_place = self._place_of(route)
        sink = KafkaSink(
            self.kafka_config,
            route.kafka_topic,
            self._dead_letters(),
            source=subscription,
            max_message_bytes=self.cluster.max_message_bytes(route.kafka_topic),
        )
        mirror = PubSubToKafka(
            route,
            sink,
            self.pub_sub,
            subscription=subscription,
            source_place=source_place,
            target_place=target_place,
            pace=self.pace,
            bounds=self.bounds,
        )
        return mirror, Step(route.name, source_place, target_place)

    def _to_pub_sub(self, route: Route) -> tuple[Mirror, Step]:
        topic = route.topic_path(self.project) or ""
        self.pub_sub.require_topic(topic, create=route.create)
        source_place = self._place_of(route)
        mirror = KafkaToPubSub(
            route,
            KafkaSource(self.kafka_config, route.kafka_topic, self._group_of(route)),
            self.pub_sub,
            self._dead_letters(),
            source_place=source_place,
            topic=topic,
            pace=self.pace,
            bounds=self.bounds,
        )
        return mirror, Step(route.name, source_place, f"pubsub/{topic}")

    def _dead_letters(self) -> DeadLetters:
        return DeadLetters(self.kafka_config, self.dead_letters_topic, self.pace)
