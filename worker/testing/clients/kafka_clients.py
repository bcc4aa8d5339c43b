"""How the clients of a test reach Kafka: by address, or by a connection where it is secured."""

from __future__ import annotations

from typing import Any

from worker.kafka.connection import Connection

__all__ = ["Kafka", "client_settings"]

Kafka = str | Connection
"""`host:port` of a Kafka that lets in everybody, or how to reach a secured one."""


def client_settings(kafka: Kafka) -> dict[str, Any]:
    """Return confluent-kafka's settings for a client that logs nothing."""
    connection = Connection(kafka) if isinstance(kafka, str) else kafka
    return {**connection.for_confluent(), "log_level": 0}
