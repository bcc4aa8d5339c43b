"""Topics of a real Kafka, created as an administrator does."""

from __future__ import annotations

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

__all__ = ["create_topic"]

ADMIN_TIMEOUT_S = 30.0


def create_topic(bootstrap: str, name: str, partitions: int = 1, **config: str) -> str:
    """Create a topic, wait until the broker has it, and return its name.

    Args:
        bootstrap: `host:port` of a broker.
        name: of the topic.
        partitions: how many.
        config: the topic's settings, with `_` for `.`: `max_message_bytes="1000"`.

    Raises:
        KafkaException: the broker refuses it.
    """
    settings = {key.replace("_", "."): value for key, value in config.items()}
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    topic = NewTopic(name, partitions, 1, config=settings)
    admin.create_topics([topic])[name].result(ADMIN_TIMEOUT_S)
    return name
