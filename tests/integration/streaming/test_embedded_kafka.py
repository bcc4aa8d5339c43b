"""The embedded broker serves the usual clients, and fails when a test tells it to."""

import asyncio
import ctypes
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import aiokafka
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from tests.leaks import native_threads
from worker.embedded import kafka as embedded_kafka
from worker.embedded.kafka import ApiKey
from worker.errors import BrokerError
from worker.testing import EmbeddedKafka


@pytest.fixture
def kafka() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as cluster:
        yield cluster


def metadata(kafka: EmbeddedKafka, timeout_s: float = 5.0) -> dict[str, int]:
    """Return the topics and how many partitions each has."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    topics = admin.list_topics(timeout=timeout_s).topics
    return {name: len(topic.partitions) for name, topic in topics.items()}


def send(kafka: EmbeddedKafka, topic: str, value: bytes, **config: object) -> Message | KafkaError:
    """Send one message and return the broker's answer."""
    outcome: list[Message | KafkaError] = []
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0, **config})
    producer.produce(topic, value, on_delivery=lambda error, sent: outcome.append(error or sent))
    producer.flush(15.0)
    return outcome[0]


def test_a_topic_has_the_partitions_that_were_asked_for(kafka: EmbeddedKafka) -> None:
    """Topics are created with a chosen number of partitions; a second creation changes nothing."""
    kafka.create_topic("images", 7)
    kafka.create_topic("images", 3)
    assert metadata(kafka) == {"images": 7}


def test_a_cluster_is_there_at_once() -> None:
    """No start waits for the mock's poll of one second: thirty take a third of that on average."""
    began = time.monotonic()
    for _ in range(30):
        with EmbeddedKafka() as cluster:
            cluster.create_topic("images")
    assert time.monotonic() - began < 10.0


def test_a_topic_needs_a_partition(kafka: EmbeddedKafka) -> None:
    """Zero partitions are refused with the topic's name."""
    with pytest.raises(BrokerError, match="'images': 0 partitions"):
        kafka.create_topic("images", 0)


def test_confluent_clients_in_a_group_read_what_was_sent(kafka: EmbeddedKafka) -> None:
    """A message reaches a consumer group without waiting for a first rebalance."""
    kafka.create_topic("images", 2)
    send(kafka, "images", b"\x00picture")
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": "readers",
            "auto.offset.reset": "earliest",
        }
    )
    started = time.monotonic()
    consumer.subscribe(["images"])
    message = consumer.poll(10.0)
    seconds = time.monotonic() - started
    consumer.close()
    assert message is not None
    assert message.value() == b"\x00picture"
    assert seconds < 2.5, "the first join waited for others"


async def test_aiokafka_clients_read_what_was_sent(kafka: EmbeddedKafka) -> None:
    """The producer and consumer of aiokafka talk to the embedded broker, headers included."""
    kafka.create_topic("images", 2)
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    await producer.start()
    await producer.send_and_wait("images", b"value", b"key", headers=[("h", b"1"), ("h", b"2")])
    await producer.stop()
    consumer = aiokafka.AIOKafkaConsumer(
        "images", bootstrap_servers=kafka.bootstrap, group_id="g", auto_offset_reset="earliest"
    )
    await consumer.start()
    record = await asyncio.wait_for(consumer.getone(), 10.0)
    await consumer.stop()
    assert (record.key, record.value) == (b"key", b"value")
    assert tuple(record.headers) == (("h", b"1"), ("h", b"2"))


def test_a_broker_goes_down_and_comes_back_with_its_messages(kafka: EmbeddedKafka) -> None:
    """While a broker is down nobody reaches it; afterwards its topics are still there."""
    kafka.create_topic("images", 1)
    kafka.broker_down()
    with pytest.raises(KafkaException):
        metadata(kafka, timeout_s=0.5)
    kafka.broker_up()
    assert metadata(kafka) == {"images": 1}


def test_injected_errors_meet_the_next_requests(kafka: EmbeddedKafka) -> None:
    """A pushed error answers one request of its kind; cleared errors answer none."""
    kafka.create_topic("images", 1)
    error = KafkaError.TOPIC_AUTHORIZATION_FAILED
    kafka.push_request_errors(ApiKey.PRODUCE, error)
    refused = send(kafka, "images", b"1", retries=0)
    assert isinstance(refused, KafkaError)
    assert error == refused.code()
    assert isinstance(send(kafka, "images", b"2"), Message)
    kafka.push_request_errors(ApiKey.PRODUCE, error, error)
    kafka.clear_request_errors(ApiKey.PRODUCE)
    assert isinstance(send(kafka, "images", b"3"), Message)


def test_answers_take_the_round_trip_time(kafka: EmbeddedKafka) -> None:
    """With a round-trip time set, an answer takes at least that long."""
    kafka.set_rtt_ms(300)
    started = time.monotonic()
    metadata(kafka)
    assert time.monotonic() - started > 0.3


def test_an_unknown_broker_is_named(kafka: EmbeddedKafka) -> None:
    """Taking down a broker that does not exist is an error with its number."""
    with pytest.raises(BrokerError, match="take broker 9 down"):
        kafka.broker_down(9)


def test_it_listens_on_the_loopback_interface_only() -> None:
    """Several brokers have an address each, all on 127.0.0.1."""
    with EmbeddedKafka(brokers=2) as kafka:
        addresses = kafka.bootstrap.split(",")
    assert len(set(addresses)) == 2
    assert [address.partition(":")[0] for address in addresses] == ["127.0.0.1"] * 2


def test_stopping_leaves_no_thread_and_can_be_repeated() -> None:
    """After `stop` its threads are gone; a second stop does nothing; its address is an error."""
    before = native_threads()
    kafka = EmbeddedKafka()
    kafka.start()
    kafka.start()
    own = native_threads() - before  # a thread of an earlier test may end at any moment
    kafka.stop()
    kafka.stop()
    assert own
    assert not own & native_threads()
    with pytest.raises(BrokerError, match="not running"):
        _ = kafka.bootstrap


def test_find_returns_only_a_broker_that_answers(tmp_path: Path) -> None:
    """An announced address is found while its broker answers and not after it has gone."""
    with EmbeddedKafka() as kafka:
        embedded_kafka.announce(tmp_path, kafka.bootstrap)
        assert kafka.bootstrap == embedded_kafka.find(tmp_path)
        kafka.broker_down()
        assert embedded_kafka.find(tmp_path) is None
        kafka.broker_up()
        assert kafka.bootstrap == embedded_kafka.find(tmp_path)
    assert embedded_kafka.find(tmp_path) is None


def test_find_is_not_fooled_by_another_program_on_the_port(tmp_path: Path) -> None:
    """A port that another program has taken over since is not a broker."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            stream, _ = server.accept()
            with stream:
                stream.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        other = threading.Thread(target=greet)
        other.start()
        embedded_kafka.announce(tmp_path, f"127.0.0.1:{server.getsockname()[1]}")
        assert embedded_kafka.find(tmp_path) is None
        other.join()


def test_a_librdkafka_without_the_mock_cluster_is_a_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When the functions are missing, the error says what to install or to set."""
    monkeypatch.setattr(ctypes, "CDLL", lambda path: object())
    with pytest.raises(BrokerError, match=r"not export a mock cluster .*pip install .*KAFKA_HOST"):
        EmbeddedKafka()
