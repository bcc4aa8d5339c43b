"""Topics of a real Kafka, created as an administrator does."""

from __future__ import annotations

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from worker.testing.clients.kafka_clients import Kafka, client_settings

__all__ = ["create_topic"]

ADMIN_TIMEOUT_S = 30.0


def create_topic(kafka: Kafka, name: str, partitions: int = 1, **config: str) -> str:
    """Create a topic, wait until the broker has it, and return its name.

    Args:
        kafka: `host:port` of a broker, or the connection to a secured one.
        name: of the topic.
        partitions: how many.
        config: the topic's settings, with `_` for `.`: `max_message_bytes="1000"`.

    Raises:
        KafkaException: the broker refuses it.
    """
    settings = {key.replace("_", "."): value for key, value in config.items()}
    admin = AdminClient(client_settings(kafka))
    topic = NewTopic(name, partitions, 1, config=settings)
    admin.create_topics([topic])[name].result(ADMIN_TIMEOUT_S)
    return name
