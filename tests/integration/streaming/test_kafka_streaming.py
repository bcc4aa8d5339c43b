"""The streaming functions on the embedded Kafka, and their errors when it is down."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from tests.integration.streaming.kafka_contract import PAYLOAD, KafkaContract
from worker.streaming.errors import StreamingError
from worker.streaming.kafka import publish_payload
from worker.testing import EmbeddedKafka


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as kafka:
        yield kafka


@pytest.fixture
def bootstrap(broker: EmbeddedKafka) -> str:
    return broker.bootstrap


@pytest.fixture
def topic(broker: EmbeddedKafka) -> str:
    name = f"images-{uuid.uuid4().hex[:8]}"
    broker.create_topic(name, 2)
    return name


class TestOnTheEmbeddedKafka(KafkaContract):
    """Every claim of the contract."""


def test_a_broker_that_does_not_answer_is_named() -> None:
    """Publishing to a broker that is down is an error that says so, after a few seconds."""
    with EmbeddedKafka() as kafka:
        address = kafka.bootstrap
    producer = Producer({"bootstrap.servers": address, "log_level": 0, "message.timeout.ms": 4000})
    with pytest.raises(StreamingError, match=f"{address} does not answer"):
        publish_payload({"KAFKA_HOST": address}, producer, PAYLOAD, "images")
    producer.flush(5.0)
