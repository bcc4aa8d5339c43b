"""A limit on the size of messages, set on a topic of a running broker."""

from __future__ import annotations

from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

__all__ = ["limit_messages"]


def limit_messages(bootstrap: str, topic: str, n_bytes: int) -> None:
    """Have a broker refuse what is published to a topic and is larger."""
    entry = ConfigEntry(
        "max.message.bytes", str(n_bytes), incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.incremental_alter_configs([resource])[resource].result(10.0)
