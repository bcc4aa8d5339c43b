"""Wrong arguments to the streaming functions are named before a broker is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from confluent_kafka import Consumer, Producer
from google.auth.credentials import AnonymousCredentials
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

from worker.streaming import kafka, pubsub
from worker.streaming.errors import StreamingError
from worker.streaming.params import encode, timeout_s

PAYLOAD = {"data": 7, "timestamp": 1.5, "image": [[0, 255], [1, 2]]}


@pytest.fixture
def producer() -> Producer:
    return Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})


@pytest.fixture
def publisher() -> PublisherClient:
    return PublisherClient(credentials=AnonymousCredentials())


def test_a_payload_becomes_json_as_it_stands() -> None:
    """A payload becomes the same JSON as before; a numpy array becomes nested lists."""
    assert orjson.loads(encode(PAYLOAD)) == PAYLOAD
    image = np.array(PAYLOAD["image"], np.uint8)
    assert encode(PAYLOAD | {"image": image}) == encode(PAYLOAD)


@pytest.mark.parametrize("payload", [None, b"bytes", [1], {"a": object()}, {1: 2}])
def test_a_payload_that_is_no_json_object_is_refused(producer: Producer, payload: object) -> None:
    """A value that JSON cannot express is an error that begins with the argument's name."""
    with pytest.raises(StreamingError, match=r"^payload: "):
        kafka.publish_payload({}, producer, payload, "images")


@pytest.mark.parametrize("topic", [None, "", 7, PAYLOAD])
def test_a_topic_is_a_name(producer: Producer, topic: Any) -> None:
    """A topic that is not a text, such as a swapped payload, is an error that says so."""
    with pytest.raises(StreamingError, match=r"^topic: expected its name"):
        kafka.publish_payload({}, producer, PAYLOAD, topic)


def test_params_come_first(producer: Producer, publisher: PublisherClient) -> None:
    """The error for swapped arguments names the class of the value given as params."""
    with pytest.raises(StreamingError, match=r"^params: .* got cimpl\.Producer"):
        kafka.publish_payload(producer, {}, PAYLOAD, "images")
    with pytest.raises(StreamingError, match=r"^params: .*PublisherClient"):
        pubsub.publish_payload(publisher, {}, PAYLOAD, "images")


def test_clients_are_told_by_their_class(publisher: PublisherClient) -> None:
    """A client of another broker is refused; the error names the right classes."""
    with pytest.raises(StreamingError, match=r"KafkaProducer or a confluent_kafka\.Producer, got"):
        kafka.publish_payload({}, publisher, PAYLOAD, "images")
    with pytest.raises(StreamingError, match=r"KafkaConsumer or a confluent_kafka\.Consumer, got"):
        kafka.consume_payload({}, publisher, "images", print)
    with pytest.raises(StreamingError, match=r"expected a .*PublisherClient, got object"):
        pubsub.publish_payload({}, object(), PAYLOAD, "images")
    with pytest.raises(StreamingError, match=r"expected a .*SubscriberClient, got object"):
        pubsub.consume_payload({}, "images-sub", print, object())


def test_a_callback_can_be_called() -> None:
    """A callback that is not a function is refused before the first message."""
    consumer = Consumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0})
    with pytest.raises(StreamingError, match=r"^callback: .* got int"):
        kafka.consume_payload({}, consumer, "images", 7)  # type: ignore[arg-type]
    consumer.close()
    subscriber = SubscriberClient(credentials=AnonymousCredentials())
    with pytest.raises(StreamingError, match=r"^callback: .* got int"):
        pubsub.consume_payload({}, "images-sub", 7, subscriber)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, -1.0, "3", True])
def test_a_timeout_is_seconds(value: object) -> None:
    """TIMEOUT is a positive number or None; any other value is an error that shows it."""
    with pytest.raises(StreamingError, match=r'params\["TIMEOUT"\] is '):
        timeout_s({"TIMEOUT": value})


def test_a_timeout_has_a_default_and_can_be_none() -> None:
    """TIMEOUT is three seconds by default; None means no limit."""
    assert (timeout_s({}), timeout_s({"TIMEOUT": None}), timeout_s({"TIMEOUT": 7})) == (
        3.0,
        None,
        7.0,
    )


@pytest.mark.parametrize("params", [{}, {"PUB_SUB_PROJECT": ""}, {"PUB_SUB_PROJECT": 3}])
def test_a_short_name_needs_a_project(
    publisher: PublisherClient, params: dict[str, object]
) -> None:
    """A topic's short name without PUB_SUB_PROJECT is an error that names the missing param."""
    with pytest.raises(StreamingError, match=r'params\["PUB_SUB_PROJECT"\] is'):
        pubsub.publish_payload(params, publisher, PAYLOAD, "python-tester")


def test_a_full_name_is_whole(publisher: PublisherClient) -> None:
    """A full name of the wrong kind is refused; a topic is not a subscription."""
    with pytest.raises(StreamingError, match=r"neither a name nor projects/PROJECT/topics/NAME"):
        pubsub.publish_payload({}, publisher, PAYLOAD, "projects/p/subscriptions/s")
