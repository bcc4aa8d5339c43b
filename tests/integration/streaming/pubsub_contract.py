"""The claims about the streaming functions on any Pub/Sub; the tests of both tiers inherit them."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import google.pubsub_v1
import orjson
import pytest
from google.api_core.exceptions import InvalidArgument
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from google.cloud.pubsub_v1.types import PublisherOptions

from worker.streaming.errors import StreamingError
from worker.streaming.pubsub import consume_payload, publish_payload

PAYLOAD = {"data": 7, "timestamp": 1.5, "image": [[0, 255], [1, 2]]}


class PubSubContract:
    """The claims; a subclass's module has the fixture `pubsub_host`."""

    @pytest.fixture
    def names(self) -> tuple[str, str]:
        name = uuid.uuid4().hex[:8]
        return f"topic-{name}", f"sub-{name}"

    @pytest.fixture
    def params(self) -> dict[str, Any]:
        return {"PUB_SUB_PROJECT": "my-project", "TIMEOUT": 5.0}

    @pytest.fixture
    def clients(
        self, pubsub_host: str, names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[tuple[PublisherClient, SubscriberClient]]:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub_host)
        topic, subscription = names
        options = PublisherOptions(enable_message_ordering=True)
        with ExitStack() as stack:
            publisher = PublisherClient(publisher_options=options)
            stack.callback(publisher.transport.close)
            stack.callback(publisher.stop)
            subscriber = stack.enter_context(SubscriberClient())
            path = publisher.topic_path("my-project", topic)
            publisher.create_topic(name=path)
            subscriber.create_subscription(
                request={
                    "name": subscriber.subscription_path("my-project", subscription),
                    "topic": path,
                    "enable_message_ordering": True,
                }
            )
            yield publisher, subscriber

    def test_a_payload_arrives_as_json(
        self, clients: Any, names: tuple[str, str], params: dict[str, Any]
    ) -> None:
        """A payload reaches the callback with its attributes, and comes no more once acked."""
        publisher, subscriber = clients
        message_id = publish_payload(params, publisher, PAYLOAD, names[0], colour="grey")
        received: list[Any] = []

        def callback(message: Any) -> None:
            received.append((message.message_id, orjson.loads(message.data), message.attributes))
            message.ack()

        consume_payload(params | {"TIMEOUT": 2.0}, names[1], callback, subscriber)
        assert [(message_id, PAYLOAD, {"colour": "grey"})] == [
            (name, payload, dict(attributes)) for name, payload, attributes in received
        ]

    def test_full_names_need_no_project(self, clients: Any, names: tuple[str, str]) -> None:
        """A topic by its full name is published to without PUB_SUB_PROJECT."""
        path = f"projects/my-project/topics/{names[0]}"
        assert publish_payload({}, clients[0], PAYLOAD, path)

    def test_a_message_that_is_not_acked_comes_again(
        self, clients: Any, names: tuple[str, str], params: dict[str, Any]
    ) -> None:
        """A message that is not acked is delivered a second time, with the same id."""
        publisher, subscriber = clients
        publish_payload(params, publisher, PAYLOAD, names[0])
        ids: list[str] = []

        def callback(message: Any) -> None:
            ids.append(message.message_id)
            message.ack() if len(ids) > 1 else message.nack()

        consume_payload(params | {"TIMEOUT": 3.0}, names[1], callback, subscriber)
        assert len(ids) == 2
        assert ids[0] == ids[1]

    def test_consuming_ends_after_the_timeout(
        self, clients: Any, names: tuple[str, str], params: dict[str, Any]
    ) -> None:
        """Without messages it returns after TIMEOUT seconds."""
        started = time.monotonic()
        consume_payload(params | {"TIMEOUT": 0.5}, names[1], print, clients[1])
        assert 0.5 <= time.monotonic() - started < 5.0

    def test_messages_of_one_ordering_key_come_in_order(
        self, clients: Any, names: tuple[str, str], params: dict[str, Any]
    ) -> None:
        """Twenty messages with one key arrive in the order in which they were published."""
        publisher, subscriber = clients
        for number in range(20):
            publish_payload(params, publisher, {"data": number}, names[0], ordering_key="k")
        received: list[int] = []

        def callback(message: Any) -> None:
            received.append(orjson.loads(message.data)["data"])
            message.ack()

        consume_payload(params, names[1], callback, subscriber)
        assert received == list(range(20))

    def test_what_the_callback_raises_is_raised(
        self, clients: Any, names: tuple[str, str], params: dict[str, Any]
    ) -> None:
        """An error of the callback ends the consuming and reaches the caller."""
        publish_payload(params, clients[0], PAYLOAD, names[0])

        def callback(message: Any) -> None:
            raise ZeroDivisionError("the callback's own")

        with pytest.raises(ZeroDivisionError, match="the callback's own"):
            consume_payload(params, names[1], callback, clients[1])

    def test_a_missing_topic_is_named_with_what_creates_it(
        self, clients: Any, params: dict[str, Any], pubsub_host: str
    ) -> None:
        """Publishing to a missing topic is an error that says how to create it there."""
        with pytest.raises(
            StreamingError,
            match=rf"topics/missing does not exist.*curl -X PUT http://{pubsub_host}/v1/projects",
        ):
            publish_payload(params, clients[0], PAYLOAD, "missing")

    def test_a_missing_subscription_is_named_with_what_creates_it(
        self, clients: Any, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without an emulator the remedy is the gcloud command."""
        monkeypatch.delenv("PUBSUB_EMULATOR_HOST")
        with pytest.raises(
            StreamingError,
            match="subscriptions/missing does not exist; create it: "
            "gcloud pubsub subscriptions create missing --project my-project --topic TOPIC",
        ):
            consume_payload(params, "missing", print, clients[1])

    def test_producer_and_consumer_work_in_threads(
        self, clients: Any, names: tuple[str, str], params: dict[str, Any]
    ) -> None:
        """One thread consumes what another publishes at the same time."""
        publisher, subscriber = clients
        received: set[int] = set()

        def callback(message: Any) -> None:
            received.add(orjson.loads(message.data)["data"])
            message.ack()

        thread = threading.Thread(
            target=consume_payload,
            args=(params | {"TIMEOUT": 4.0}, names[1], callback, subscriber),
        )
        thread.start()
        for number in range(30):
            publish_payload(params, publisher, {"data": number}, names[0])
        thread.join()
        assert received == set(range(30))

    def test_an_empty_message_is_refused(self, clients: Any, names: tuple[str, str]) -> None:
        """A message with neither data nor attributes is an invalid argument."""
        refused(clients[0], names[0], [{"data": b""}])


def refused(publisher: PublisherClient, topic: str, messages: list[dict[str, Any]]) -> None:
    """Assert that a publish request with these messages is an invalid argument."""
    requests = google.pubsub_v1.PublisherClient(transport=publisher.transport)
    with pytest.raises(InvalidArgument):
        requests.publish(topic=f"projects/my-project/topics/{topic}", messages=messages)
