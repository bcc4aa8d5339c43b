"""Both sides of a bridge in the tests, and the bridge between them."""

from __future__ import annotations

import asyncio
import os
import queue
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from google.pubsub_v1 import types

from worker.bridge.messages.routes import Route
from worker.bridge.service import Bridge
from worker.kafka.broker import Broker
from worker.kafka.connection import Connection

PROJECT = "my-project"
OUTAGE_S = float(os.environ.get("DARKROOM_TEST_OUTAGE_S", "3"))
"""Seconds of an outage; 60 in the long form."""
YESTERDAY_MS = int(time.time() * 1000) - 86_400_000
"""Kafka refuses messages from the future, and deletes those that are a week old."""
PubsubMessage = types.PubsubMessage.pb()


class Sides:
    """One Kafka and one Pub/Sub, with new topics for each test."""

    def __init__(self, bootstrap: str, host: str, create: Callable[[str], None]) -> None:
        self.bootstrap = bootstrap
        self.host = host
        self._create = create
        self._channel = grpc.insecure_channel(
            host, options=[("grpc.max_receive_message_length", -1)]
        )
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "linger.ms": 5,
                "log_level": 0,
                "message.max.bytes": 11_000_000,
            }
        )

    def close(self) -> None:
        self._producer.flush(10.0)
        del self._producer  # its connections end with it
        self._channel.close()

    def kafka_topic(self) -> str:
        name = f"k-{uuid.uuid4().hex[:8]}"
        self._create(name)
        return name

    def _call(self, service: str, method: str, request: Any, answer: Any) -> Any:
        call = self._channel.unary_unary(
            f"/google.pubsub.v1.{service}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        return call(request, timeout=30.0)

    def pub_sub_topic(self) -> str:
        name = f"t-{uuid.uuid4().hex[:8]}"
        topic = types.Topic.pb()
        self._call("Publisher", "CreateTopic", topic(name=self.topic_path(name)), topic)
        return name

    def subscription(self, topic: str) -> str:
        name = f"s-{uuid.uuid4().hex[:8]}"
        kind = types.Subscription.pb()
        request = kind(
            name=f"projects/{PROJECT}/subscriptions/{name}",
            topic=self.topic_path(topic),
            enable_message_ordering=True,
            ack_deadline_seconds=60,
        )
        self._call("Subscriber", "CreateSubscription", request, kind)
        return name

    def topic_path(self, topic: str) -> str:
        return f"projects/{PROJECT}/topics/{topic}"

    def send(self, topic: str, values: Sequence[bytes | None], **kwargs: Any) -> None:
        """Send values to Kafka and wait for the broker."""
        for value in values:
            self.produce(topic, value, **kwargs)
        self.flush()

    def produce(self, topic: str, value: bytes | None, **kwargs: Any) -> None:
        """Put one message into the producer's queue; `flush` waits for the broker."""
        while True:
            try:
                self._producer.produce(topic, value, **kwargs)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def flush(self) -> None:
        assert self._producer.flush(60.0) == 0

    def publish(self, topic: str, messages: Sequence[Any]) -> list[str]:
        """Publish to Pub/Sub, 1,000 messages per request."""
        ids: list[str] = []
        for start in range(0, len(messages), 1000):
            request = types.PublishRequest.pb()(
                topic=self.topic_path(topic), messages=messages[start : start + 1000]
            )
            answer = types.PublishResponse.pb()
            ids += self._call("Publisher", "Publish", request, answer).message_ids
        return ids

    def read_pub_sub(
        self, subscription: str, enough: int, timeout_s: float = 30.0, extra_s: float = 0.0
    ) -> list[Any]:
        """Pull until enough different messages have come, and a little longer; acknowledge all."""
        path = f"projects/{PROJECT}/subscriptions/{subscription}"
        stream = self._channel.stream_stream(
            "/google.pubsub.v1.Subscriber/StreamingPull",
            request_serializer=types.StreamingPullRequest.pb().SerializeToString,
            response_deserializer=types.StreamingPullResponse.pb().FromString,
        )
        messages: list[Any] = []
        outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        request = types.StreamingPullRequest.pb()
        outgoing.put(request(subscription=path, stream_ack_deadline_seconds=30))
        call = stream(iter(outgoing.get, None), timeout=timeout_s + extra_s)
        seen: set[bytes] = set()
        end: float | None = None
        try:
            for response in call:
                outgoing.put(request(ack_ids=[one.ack_id for one in response.received_messages]))
                messages += [one.message for one in response.received_messages]
                seen.update(one.message.data for one in response.received_messages)
                if len(seen) >= enough:
                    end = end or time.monotonic() + extra_s
                    if time.monotonic() >= end:
                        break
        except grpc.RpcError as error:
            code = error.code()
            if code is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
        finally:
            time.sleep(0.1)  # the last acknowledgements leave
            outgoing.put(None)
            call.cancel()
        assert len(seen) >= enough, f"{len(seen)} of {enough} came within {timeout_s:g} s"
        return messages

    def read_kafka(self, topic: str, enough: int, timeout_s: float = 30.0) -> list[Any]:
        """Read a topic from its beginning until enough different values have come."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "reader",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "log_level": 0,
            }
        )
        found = consumer.list_topics(topic, timeout=10.0).topics[topic].partitions
        consumer.assign([TopicPartition(topic, index, 0) for index in found])
        messages: list[Any] = []
        seen: set[bytes | None] = set()
        deadline = time.monotonic() + timeout_s
        while len(seen) < enough and time.monotonic() < deadline:
            for message in consumer.consume(1000, 0.1):
                if message.error() is None:
                    messages.append(message)
                    seen.add(message.value())
        messages += [one for one in consumer.consume(1000, 0.3) if one.error() is None]
        consumer.close()
        assert len(seen) >= enough, f"{len(seen)} of {enough} came within {timeout_s:g} s"
        return messages

    def bridge(self, *routes: Route, **kwargs: Any) -> Bridge:
        options = {"dead_letters_topic": "dead-letters", "timeout_s": 10.0, **kwargs}
        return Bridge(
            routes,
            broker=Broker(Connection(self.bootstrap)),
            project=PROJECT,
            kafka_config={"session.timeout.ms": 6000},
            **options,
        )

    @asynccontextmanager
    async def mirroring(self, *routes: Route, **kwargs: Any) -> AsyncIterator[Bridge]:
        """Run a bridge with these routes inside the `with`."""
        bridge = self.bridge(*routes, **kwargs)
        await bridge.start()
        try:
            yield bridge
        finally:
            await bridge.stop()


class Outward:
    """A route from Kafka, with a subscription to its far end."""

    def __init__(self, sides: Sides, **options: object) -> None:
        self.kafka = sides.kafka_topic()
        topic = sides.pub_sub_topic()
        self.subscription = sides.subscription(topic)
        self.route = Route.model_validate(
            {"kafka_topic": self.kafka, "pub_sub_topic": topic, **options}
        )


class Inward:
    """A route to Kafka."""

    def __init__(self, sides: Sides, **options: object) -> None:
        self.kafka = sides.kafka_topic()
        self.topic = sides.pub_sub_topic()
        subscription = sides.subscription(self.topic)
        self.route = Route.model_validate(
            {"kafka_topic": self.kafka, "pub_sub_subscription": subscription, **options}
        )


async def eventually(what: str, check: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            pytest.fail(f"no {what} within {timeout_s:g} s")
        await asyncio.sleep(0.02)


def numbered(n_messages: int, start: int = 0) -> list[bytes]:
    return [b"message %06d" % number for number in range(start, start + n_messages)]


def use_emulator(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", host)
