"""The claims about the streaming functions on any Kafka; the tests of both tiers inherit them."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import confluent_kafka
import kafka
import orjson
import pytest

from worker.streaming.errors import StreamingError
from worker.streaming.kafka import consume_payload, publish_payload

PAYLOAD = {"data": 7, "timestamp": 1.5, "image": [[0, 255], [1, 2]]}
CLIENTS = ["kafka-python", "confluent-kafka"]


class Clients:
    """Producers and consumers of both libraries, closed at the end of a test."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.params = {"KAFKA_HOST": bootstrap, "TIMEOUT": 3.0}
        self._close: list[Callable[[], object]] = []

    def producer(self, library: str, **config: Any) -> Any:
        if library == "confluent-kafka":
            producer = confluent_kafka.Producer(
                {"bootstrap.servers": self.bootstrap, "log_level": 0, **config}
            )
            self._close.append(lambda: producer.flush(5.0))
            return producer
        publisher = kafka.KafkaProducer(bootstrap_servers=self.bootstrap, **config)
        self._close.append(publisher.close)
        return publisher

    def consumer(self, library: str, *topics: str, **config: Any) -> Any:
        group = f"g-{uuid.uuid4().hex[:8]}"
        if library == "confluent-kafka":
            consumer = confluent_kafka.Consumer(
                {
                    "bootstrap.servers": self.bootstrap,
                    "group.id": group,
                    "auto.offset.reset": "earliest",
                    "log_level": 0,
                    **config,
                }
            )
        else:
            consumer = kafka.KafkaConsumer(
                *topics,
                bootstrap_servers=self.bootstrap,
                group_id=group,
                auto_offset_reset="earliest",
                session_timeout_ms=6000,  # about as long takes a second join on the embedded broker
                **config,
            )
        self._close.append(consumer.close)
        return consumer

    def close(self) -> None:
        while self._close:
            self._close.pop()()


class KafkaContract:
    """The claims; a subclass's module has the fixtures `bootstrap` and `topic`."""

    @pytest.fixture
    def clients(self, bootstrap: str) -> Iterator[Clients]:
        clients = Clients(bootstrap)
        yield clients
        clients.close()

    @pytest.mark.parametrize("reader", CLIENTS)
    @pytest.mark.parametrize("writer", CLIENTS)
    def test_a_payload_arrives_as_json(
        self, clients: Clients, topic: str, writer: str, reader: str
    ) -> None:
        """Either library receives the messages of the other; `.value` is the payload's bytes."""
        publish_payload(clients.params, clients.producer(writer), PAYLOAD, topic)
        received: list[Any] = []

        def callback(message: Any) -> bool:
            received.append(message)
            return False

        consume_payload(clients.params, clients.consumer(reader), topic, callback)
        (message,) = received
        assert isinstance(message.value, bytes)
        assert orjson.loads(message.value) == PAYLOAD
        assert message.topic == topic

    @pytest.mark.parametrize("library", CLIENTS)
    def test_the_broker_has_confirmed_when_publishing_returns(
        self, clients: Clients, topic: str, library: str
    ) -> None:
        """The second message to a partition directly follows the first."""
        producer = clients.producer(library)
        first, second = (
            publish_payload(clients.params, producer, PAYLOAD, topic, partition=0) for _ in "12"
        )
        assert first.offset + 1 == second.offset
        assert (topic, 0) == (second.topic, second.partition)

    @pytest.mark.parametrize("library", CLIENTS)
    def test_further_arguments_go_to_the_client(
        self, clients: Clients, topic: str, library: str
    ) -> None:
        """The message has the key and headers that publish_payload was given."""
        producer = clients.producer(library)
        headers = [("content-type", b"application/json")]
        publish_payload(clients.params, producer, PAYLOAD, topic, key=b"k", headers=headers)
        received: list[Any] = []

        def callback(message: Any) -> bool:
            received.append((message.key, list(message.headers)))
            return False

        consume_payload(clients.params, clients.consumer(library), topic, callback)
        assert received == [(b"k", headers)]

    @pytest.mark.parametrize("library", CLIENTS)
    def test_the_callback_gets_all_messages_until_it_returns_false(
        self, clients: Clients, topic: str, library: str
    ) -> None:
        """Messages come in order, one call each, and consuming ends at the callback's False."""
        producer = clients.producer(library)
        for number in range(20):
            publish_payload(clients.params, producer, {"data": number}, topic, partition=0)
        received: list[int] = []

        def callback(message: Any) -> bool:
            received.append(orjson.loads(message.value)["data"])
            return len(received) < 20

        consume_payload(clients.params, clients.consumer(library), topic, callback)
        assert received == list(range(20))

    @pytest.mark.parametrize("library", CLIENTS)
    def test_what_the_callback_raises_is_raised(
        self, clients: Clients, topic: str, library: str
    ) -> None:
        """An error of the callback ends the consuming and reaches the caller."""
        publish_payload(clients.params, clients.producer(library), PAYLOAD, topic)

        def callback(message: Any) -> None:
            raise ZeroDivisionError("the callback's own")

        with pytest.raises(ZeroDivisionError, match="the callback's own"):
            consume_payload(clients.params, clients.consumer(library), topic, callback)

    def test_producer_and_consumer_work_in_threads(self, clients: Clients, topic: str) -> None:
        """One thread consumes what another publishes at the same time."""
        publish_payload(clients.params, clients.producer("kafka-python"), {"data": -1}, topic)
        received: list[int] = []

        def callback(message: Any) -> bool:
            received.append(orjson.loads(message.value)["data"])
            return len(received) <= 50

        consumer = clients.consumer("kafka-python")
        thread = threading.Thread(
            target=consume_payload, args=(clients.params, consumer, topic, callback)
        )
        thread.start()
        producer = clients.producer("kafka-python")
        for number in range(50):
            publish_payload(clients.params, producer, {"data": number}, topic)
        thread.join(30.0)
        assert sorted(received) == list(range(-1, 50))

    def test_kafka_python_s_own_settings_hold(self, clients: Clients, topic: str) -> None:
        """The producer's own serializer gets the dict; consumer_timeout_ms ends the consuming."""
        producer = clients.producer("kafka-python", value_serializer=Serializer())
        publish_payload(clients.params, producer, PAYLOAD, topic)
        received: list[bytes] = []
        consumer = clients.consumer("kafka-python", topic, consumer_timeout_ms=4000)
        consume_payload(
            clients.params, consumer, topic, lambda message: received.append(message.value)
        )
        assert received == [b"own:" + orjson.dumps(PAYLOAD)]

    def test_an_assigned_consumer_keeps_its_partitions(self, clients: Clients, topic: str) -> None:
        """Assigning partitions and seeking before is respected by both libraries."""
        producer = clients.producer("confluent-kafka")
        for number in range(3):
            publish_payload(clients.params, producer, {"data": number}, topic, partition=0)
        assigned = clients.consumer("confluent-kafka")
        assigned.assign([confluent_kafka.TopicPartition(topic, 0, 2)])
        python = clients.consumer("kafka-python")
        python.assign([kafka.TopicPartition(topic, 0)])
        python.seek(kafka.TopicPartition(topic, 0), 1)
        offsets: list[int] = []

        def callback(message: Any) -> bool:
            offsets.append(message.offset)
            return False

        consume_payload(clients.params, assigned, topic, callback)
        consume_payload(clients.params, python, topic, callback)
        assert offsets == [2, 1]

    @pytest.mark.parametrize("library", CLIENTS)
    def test_a_message_that_is_too_large_is_refused_by_name(
        self, clients: Clients, topic: str, library: str
    ) -> None:
        """A payload over the client's limit is an error that names the topic."""
        limit = {"kafka-python": "max_request_size", "confluent-kafka": "message.max.bytes"}
        producer = clients.producer(library, **{limit[library]: 1000})
        with pytest.raises(StreamingError, match=f"topic '{topic}'.*did not accept the message"):
            publish_payload(clients.params, producer, {"data": "x" * 5000}, topic)


class MissingTopics:
    """A missing topic, on a broker that does not create topics by itself."""

    @pytest.fixture
    def clients(self, bootstrap: str) -> Iterator[Clients]:
        clients = Clients(bootstrap)
        yield clients
        clients.close()

    @pytest.mark.parametrize("library", CLIENTS)
    def test_consuming_says_how_to_create_it(self, clients: Clients, library: str) -> None:
        """A missing topic is an error with its name and the command that creates it."""
        started = time.monotonic()
        with pytest.raises(
            StreamingError, match=r"'missing' does not exist on .*--create --topic missing"
        ):
            consume_payload(clients.params, clients.consumer(library), "missing", print)
        assert time.monotonic() - started < 10.0


class Serializer(kafka.serializer.Serializer):
    """A user's own serializer."""

    def serialize(self, topic: str, headers: object, value: object) -> bytes:
        return b"own:" + orjson.dumps(value)
