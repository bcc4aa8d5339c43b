"""Topics of the real Kafka, created and changed as an administrator does."""

from __future__ import annotations

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.integration.bridge.mirrored import Sides

__all__ = ["create", "narrow_topic"]


def create(bootstrap: str, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, 3, 1)])[name].result(30.0)


def narrow_topic(sides: Sides, **config: str) -> str:
    """Create a topic that takes 100,000 bytes at most."""
    name = f"{sides.kafka_topic()}-narrow"
    settings = {"max.message.bytes": "100000", **config}
    admin = AdminClient({"bootstrap.servers": sides.bootstrap})
    admin.create_topics([NewTopic(name, 1, 1, config=settings)])[name].result(30.0)
    return name
