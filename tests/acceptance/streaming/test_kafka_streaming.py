"""The streaming functions on a real Kafka that does not create topics by itself."""

from __future__ import annotations

import pytest

from tests.integration.streaming.kafka_contract import (
    CLIENTS,
    PAYLOAD,
    Clients,
    KafkaContract,
    MissingTopics,
)
from worker.streaming.errors import StreamingError
from worker.streaming.kafka import publish_payload
from worker.testing.clients.topics import create_topic
from worker.testing.deployment import unique_topic
from worker.testing.programs.brokers import RealKafka


@pytest.fixture
def bootstrap(kafka: RealKafka) -> str:
    return kafka.bootstrap


@pytest.fixture
def topic(kafka: RealKafka) -> str:
    return create_topic(kafka.bootstrap, unique_topic(), 2)


class TestOnARealKafka(KafkaContract):
    """Every claim of the contract."""


class TestMissingTopics(MissingTopics):
    """Consuming from a missing topic."""

    @pytest.mark.parametrize("library", CLIENTS)
    def test_publishing_says_how_to_create_it(self, clients: Clients, library: str) -> None:
        """A missing topic is an error with its name and the command that creates it."""
        quick = {"max_block_ms": 2000} if library == "kafka-python" else {}
        producer = clients.producer(library, **quick)
        with pytest.raises(
            StreamingError, match=r"'missing' does not exist on .*--create --topic missing"
        ):
            publish_payload(clients.params, producer, PAYLOAD, "missing")
        if library == "confluent-kafka":
            producer.purge()
