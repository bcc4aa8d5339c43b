"""Both sides of a bridge: checks the two ends of a route, and connects them by a mirror."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.bridge.cluster import Cluster
from worker.bridge.dead_letters import DeadLetters
from worker.bridge.kafka_sink import KafkaSink
from worker.bridge.kafka_to_pubsub import KafkaToPubSub
from worker.bridge.pace import Bounds, Pace
from worker.bridge.pub_sub import PubSub
from worker.bridge.pubsub_to_kafka import PubSubToKafka
from worker.bridge.routes import Route, Step

__all__ = ["Endpoints", "Mirror"]

Mirror = KafkaToPubSub | PubSubToKafka


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """One Kafka and one Pub/Sub.

    Attributes:
        pub_sub: The channel to Pub/Sub.
        cluster: The topics of Kafka.
        kafka_config: confluent-kafka's settings for the connection.
        dead_letters_topic: Where messages go that the other side will never take.
        group: Beginning of the consumer groups' names.
        project: Pub/Sub project of short names.
        pace: The times of each route.
        bounds: The most that each route holds.
    """

    pub_sub: PubSub
    cluster: Cluster
    kafka_config: Mapping[str, Any]
    dead_letters_topic: str
    group: str
    project: str | None
    pace: Pace
    bounds: Bounds

    def connect(self, route: Route) -> tuple[Mirror, Step]:
        """Check both ends of a route, and return its mirror, which is not running yet.

        Raises:
            BridgeError: an end is missing or cannot be reached; says which and what to do.
            BrokerError: Kafka refuses to create the topic.
        """
        self.cluster.require_topic(route)
        return self._to_kafka(route) if route.is_inward else self._to_pub_sub(route)

    def _to_kafka(self, route: Route) -> tuple[Mirror, Step]:
        subscription = route.subscription_path(self.project) or ""
        topic = route.topic_path(self.project) if route.create else None
        if topic:
            self.pub_sub.require_topic(topic, create=True)
        source_place = f"pubsub/{self.pub_sub.topic_of(subscription, create_on=topic)}"
        target_place = self.cluster.place_of(route.kafka_topic)
        sink = KafkaSink(
            self.kafka_config,
            route.kafka_topic,
            self._dead_letters(),
            source=subscription,
            max_message_bytes=self.cluster.max_message_bytes(route.kafka_topic),
        )
        mirror = PubSubToKafka(
            route,
            self.pub_sub,
            sink,
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
        source_place = self.cluster.place_of(route.kafka_topic)
        mirror = KafkaToPubSub(
            route,
            self.pub_sub,
            self._dead_letters(),
            kafka_config=self.kafka_config,
            group=f"{self.group}-{route.kafka_topic}-{topic.rpartition('/')[2]}",
            source_place=source_place,
            topic=topic,
            pace=self.pace,
            bounds=self.bounds,
        )
        return mirror, Step(route.name, source_place, f"pubsub/{topic}")

    def _dead_letters(self) -> DeadLetters:
        return DeadLetters(self.kafka_config, self.dead_letters_topic, self.pace)
