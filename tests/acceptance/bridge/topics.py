"""Topics of the real Kafka with limits, created as an administrator does."""

from __future__ import annotations

from tests.integration.bridge.mirrored import Sides
from worker.testing.clients.topics import create_topic

__all__ = ["narrow_topic"]


def narrow_topic(sides: Sides, **config: str) -> str:
    """Create a topic that takes 100,000 bytes at most."""
    name = f"{sides.kafka_topic()}-narrow"
    return create_topic(sides.bootstrap, name, max_message_bytes="100000", **config)
