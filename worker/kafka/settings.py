"""What can be set on the worker's Kafka: how to reach it, and its topics."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PositiveInt, SecretStr, model_validator

from worker.kafka.connection import EMBEDDED, Connection, Mechanism, Protocol
from worker.kafka.hosts import Brokers, Hosts
from worker.kafka.topics import Topics
from worker.section import Section, variable

__all__ = ["KafkaSettings", "TopicName"]

TopicName = Annotated[str, Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")]

SUFFIXES = {
    "predictions_topic": ("DARKROOM_PREDICTIONS_TOPIC", "predictions"),
    "control_topic": ("DARKROOM_CONTROL_TOPIC", "control"),
    "events_topic": ("DARKROOM_EVENTS_TOPIC", "events"),
    "dead_letters_topic": ("DARKROOM_DEAD_LETTERS_TOPIC", "dead-letters"),
    "group": ("DARKROOM_GROUP", "worker"),
}
"""Names that derive from the images topic where they are not set."""


class KafkaSettings(Section):
    """The cluster, who the worker is there, and the names of its topics."""

    host: Hosts = variable("KAFKA_HOST", Brokers(EMBEDDED))
    """`host:port`, comma-separated, each with or without the port and a scheme."""
    protocol: Protocol | None = variable("DARKROOM_KAFKA_PROTOCOL")
    """By default what the other settings ask for, encrypted where there is a choice."""
    mechanism: Mechanism | None = variable("DARKROOM_KAFKA_MECHANISM")
    username: str | None = variable("DARKROOM_KAFKA_USERNAME")
    password: SecretStr | None = variable("DARKROOM_KAFKA_PASSWORD")
    ca_file: Path | None = variable("DARKROOM_KAFKA_CA_FILE")
    cert_file: Path | None = variable("DARKROOM_KAFKA_CERT_FILE")
    key_file: Path | None = variable("DARKROOM_KAFKA_KEY_FILE")
    key_password: SecretStr | None = variable("DARKROOM_KAFKA_KEY_PASSWORD")

    images_topic: TopicName = variable("KAFKA_TOPIC", "images")
    predictions_topic: TopicName = variable("DARKROOM_PREDICTIONS_TOPIC", "")
    control_topic: TopicName = variable("DARKROOM_CONTROL_TOPIC", "")
    events_topic: TopicName = variable("DARKROOM_EVENTS_TOPIC", "")
    dead_letters_topic: TopicName = variable("DARKROOM_DEAD_LETTERS_TOPIC", "")
    group: TopicName = variable("DARKROOM_GROUP", "")
    """Consumer group of the workers; `<KAFKA_TOPIC>-worker` by default."""
    partitions: PositiveInt = variable("DARKROOM_PARTITIONS", 8)
    """Partitions of a topic that the worker creates; control and events always have one."""
    replication: PositiveInt = variable("DARKROOM_REPLICATION", 1)

    @model_validator(mode="before")
    @classmethod
    def _derive_names(cls, values: dict[str, Any]) -> dict[str, Any]:
        topic = values.get("KAFKA_TOPIC", values.get("images_topic", "images"))
        derived = {
            variable_name: f"{topic}-{suffix}"
            for field, (variable_name, suffix) in SUFFIXES.items()
            if field not in values
        }
        return derived | values

    @model_validator(mode="after")
    def _topics_differ(self) -> Self:
        names = self.topics.names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two topics share the name {twice[0]!r}; give each its own")
        return self

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        problems = list(self._contradictions())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _contradictions(self) -> Sequence[str]:
        """Return what the settings of the connection lack or have in vain."""
        connection = self.connection
        found = []
        scheme = self.host.scheme
        if scheme and self.protocol and scheme != self.protocol:
            found.append(
                f"KAFKA_HOST says {scheme} and DARKROOM_KAFKA_PROTOCOL {self.protocol}; "
                "leave one of them out"
            )
        if connection.has_sasl and not (self.username and self.password):
            found.append(
                f"{connection.protocol} needs DARKROOM_KAFKA_USERNAME and DARKROOM_KAFKA_PASSWORD"
            )
        if not connection.has_sasl and (self.username or self.password or self.mechanism):
            found.append(
                f"DARKROOM_KAFKA_USERNAME, _PASSWORD and _MECHANISM have no use with "
                f"{connection.protocol}; set DARKROOM_KAFKA_PROTOCOL=SASL_SSL, or leave them out"
            )
        if not connection.has_tls and (self.ca_file or self.cert_file or self.key_file):
            found.append(
                f"DARKROOM_KAFKA_CA_FILE, _CERT_FILE and _KEY_FILE have no use with "
                f"{connection.protocol}; set DARKROOM_KAFKA_PROTOCOL=SSL or SASL_SSL, "
                "or leave them out"
            )
        if bool(self.cert_file) != bool(self.key_file):
            found.append("DARKROOM_KAFKA_CERT_FILE and DARKROOM_KAFKA_KEY_FILE go together")
        return found

    @property
    def connection(self) -> Connection:
        """How to reach the cluster."""
        protocol = self.host.scheme or self.protocol or self._default_protocol
        has_sasl = protocol.startswith("SASL")
        return Connection(
            hosts=self.host.addresses,
            protocol=protocol,
            mechanism=(self.mechanism or "SCRAM-SHA-512") if has_sasl else None,
            username=self.username,
            password=self.password,
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            key_file=self.key_file,
            key_password=self.key_password,
        )

    @property
    def _default_protocol(self) -> Protocol:
        if self.username:
            return "SASL_SSL"
        return "SSL" if self.ca_file or self.cert_file else "PLAINTEXT"

    @property
    def topics(self) -> Topics:
        """The names of the topics."""
        return Topics(
            images=self.images_topic,
            predictions=self.predictions_topic,
            control=self.control_topic,
            events=self.events_topic,
            dead_letters=self.dead_letters_topic,
        )
