"""The brokers of the bridge's benchmark, what fills and counts them, and Google's own clients."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from google.cloud.pubsub_v1.types import FlowControl, PublisherOptions
from google.pubsub_v1 import types

from worker.bridge.routes import Route
from worker.bridge.service import Bridge, bridge_services

PROJECT = "my-project"
DATA = bytes(784)
PubsubMessage = types.PubsubMessage.pb()


class Ground:
    """A Kafka and a Pub/Sub, with what a contender needs made anew for each run."""

    def __init__(self, bootstrap: str, host: str) -> None:
        self._bootstrap = bootstrap
        self._host = host
        os.environ["PUBSUB_EMULATOR_HOST"] = host
        self._channel = grpc.insecure_channel(
            host, options=[("grpc.max_receive_message_length", -1)]
        )

    # the contenders: seconds from the start to the last message at the far end

    def google_publish(self, n_messages: int) -> float:
        topic, subscription = self._topic()
        options = PublisherOptions()
        publisher = PublisherClient(publisher_options=options)
        with self._counting(subscription, n_messages) as count:
            started = time.perf_counter()
            for _ in range(n_messages):
                publisher.publish(topic, DATA)
            count()
            seconds = time.perf_counter() - started
        publisher.stop()
        publisher.transport.close()
        return seconds

    def google_subscribe(self, n_messages: int) -> float:
        topic, subscription = self._topic()
        self._fill_pub_sub(topic, n_messages)
        done = threading.Event()
        left = [n_messages]
        lock = threading.Lock()

        def callback(message: Any) -> None:
            message.ack()
            with lock:
                left[0] -= 1
                if left[0] <= 0:
                    done.set()

        with SubscriberClient() as subscriber:
            started = time.perf_counter()
            pull = subscriber.subscribe(
                subscription, callback, flow_control=FlowControl(max_messages=20_000)
            )
            done.wait(300)
            seconds = time.perf_counter() - started
            pull.cancel()
            pull.result()
        return seconds

    def bridge_out(self, n_messages: int) -> float:
        return self._bridge_out(n_messages, "none")

    def bridge_ordered(self, n_messages: int) -> float:
        return self._bridge_out(n_messages, "key")

    def _bridge_out(self, n_messages: int, ordering: str) -> float:
        topic, subscription = self._topic()
        kafka = self._kafka_topic()
        self._fill_kafka(kafka, n_messages)
        route = Route.model_validate(
            {"kafka_topic": kafka, "pub_sub_topic": topic, "ordering": ordering}
        )
        with self._counting(subscription, n_messages) as count, self._bridge(route):
            started = time.perf_counter()
            count()
            return time.perf_counter() - started

    def bridge_in(self, n_messages: int) -> float:
        topic, subscription = self._topic()
        kafka = self._kafka_topic()
        self._fill_pub_sub(topic, n_messages)
        route = Route(kafka_topic=kafka, pub_sub_subscription=subscription)
        with self._bridge(route):
            started = time.perf_counter()
            self._count_kafka(kafka, n_messages)
            return time.perf_counter() - started

    def latencies_ms(self, n_messages: int, per_s: float) -> list[float]:
        """Return how long each message is on its way at a steady rate."""
        topic, subscription = self._topic()
        kafka = self._kafka_topic()
        producer = Producer({"bootstrap.servers": self._bootstrap, "linger.ms": 0})
        came: list[float] = []

        def arrived(messages: list[Any]) -> None:
            now = time.time()
            came.extend((now - float(one.data[:20])) * 1000 for one in messages)

        route = Route(kafka_topic=kafka, pub_sub_topic=topic)
        with self._counting(subscription, n_messages, arrived) as count, self._bridge(route):
            time.sleep(3)  # the group has joined
            for _ in range(n_messages):
                producer.produce(kafka, b"%020.6f" % time.time() + DATA[20:])
                producer.poll(1 / per_s)
            producer.flush(10)
            count()
        return came[n_messages // 10 :]

    # what they need

    def _topic(self) -> tuple[str, str]:
        name = uuid.uuid4().hex[:8]
        topic = f"projects/{PROJECT}/topics/t-{name}"
        subscription = f"projects/{PROJECT}/subscriptions/s-{name}"
        self._call("Publisher", "CreateTopic", types.Topic.pb()(name=topic), types.Topic)
        wanted = types.Subscription.pb()(name=subscription, topic=topic, ack_deadline_seconds=600)
        self._call("Subscriber", "CreateSubscription", wanted, types.Subscription)
        return topic, subscription

    def _call(self, service: str, method: str, request: Any, answer: Any) -> Any:
        call = self._channel.unary_unary(
            f"/google.pubsub.v1.{service}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.pb().FromString,
        )
        return call(request)

    def _kafka_topic(self) -> str:
        name = f"k-{uuid.uuid4().hex[:8]}"
        admin = AdminClient({"bootstrap.servers": self._bootstrap})
        admin.create_topics([NewTopic(name, 8, 1)])[name].result(30)
        return name

    def _fill_kafka(self, topic: str, n_messages: int) -> None:
        producer = Producer(
            {"bootstrap.servers": self._bootstrap, "queue.buffering.max.messages": 1_000_000}
        )
        for number in range(n_messages):
            producer.produce(topic, DATA, key=b"key-%d" % (number % 100))
        producer.flush(60)

    def _fill_pub_sub(self, topic: str, n_messages: int) -> None:
        request = types.PublishRequest.pb()(topic=topic, messages=[PubsubMessage(data=DATA)] * 1000)
        for _ in range(n_messages // 1000):
            self._call("Publisher", "Publish", request, types.PublishResponse)

    def _count_kafka(self, topic: str, n_messages: int) -> None:
        consumer = Consumer(
            {"bootstrap.servers": self._bootstrap, "group.id": "bench", "fetch.wait.max.ms": 10}
        )
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(8)])
        left = n_messages
        while left > 0:
            left -= len(consumer.consume(1000, 0.05))
        consumer.close()

    @contextmanager
    def _counting(
        self,
        subscription: str,
        n_messages: int,
        arrived: Callable[[list[Any]], object] = len,
    ) -> Iterator[Callable[[], None]]:
        """Pull from a subscription in the background; the function waits for the last message."""
        done, over = threading.Event(), threading.Event()
        request = types.StreamingPullRequest.pb()

        def requests() -> Iterator[Any]:
            yield request(subscription=subscription, stream_ack_deadline_seconds=600)
            over.wait()

        call = self._channel.stream_stream(
            "/google.pubsub.v1.Subscriber/StreamingPull",
            request_serializer=request.SerializeToString,
            response_deserializer=types.StreamingPullResponse.pb().FromString,
        )(requests())

        def count() -> None:
            left = n_messages
            try:
                for response in call:
                    arrived([one.message for one in response.received_messages])
                    left -= len(response.received_messages)
                    if left <= 0:
                        done.set()
            except grpc.RpcError:
                return

        thread = threading.Thread(target=count)
        thread.start()
        yield lambda: (done.wait(300), None)[1]
        over.set()
        call.cancel()
        thread.join()

    @contextmanager
    def _bridge(self, route: Route) -> Iterator[None]:
        """Run the bridge in a thread with a loop of its own."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()

        async def start() -> Bridge:
            (bridge,) = bridge_services(
                [route], bootstrap=lambda: self._bootstrap, dead_letters_topic="dead-letters"
            )
            await bridge.start()
            assert isinstance(bridge, Bridge)
            return bridge

        bridge = asyncio.run_coroutine_threadsafe(start(), loop).result()
        yield
        asyncio.run_coroutine_threadsafe(bridge.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def script(name: str, *options: str) -> Iterator[str]:
    """Run one of the broker scripts and return its address."""
    path = Path(__file__).parents[1] / "scripts" / name
    with ready([str(path), "--port", "0", *options]) as address:
        yield address


@contextmanager
def module(name: str) -> Iterator[str]:
    """Run a module that says where it is ready."""
    with ready([sys.executable, "-m", name]) as address:
        yield address


@contextmanager
def ready(command: list[str]) -> Iterator[str]:
    """Run a server until the end, from the line on that says where it is."""
    environment = {name: value for name, value in os.environ.items() if "PUBSUB" not in name}
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    assert server.stdout is not None
    try:
        for line in server.stdout:
            if found := re.search(r" is ready at (\S+)", line):
                yield found[1]
                return
        raise RuntimeError(f"{command[0]} did not start; run it by hand to see why")
    finally:
        server.terminate()
        server.wait()
