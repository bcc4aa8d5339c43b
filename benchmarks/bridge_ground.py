"""The brokers of the bridge's benchmark, and the contenders: the bridge and Google's clients."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from confluent_kafka import Consumer, Producer, TopicPartition
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from google.cloud.pubsub_v1.types import FlowControl
from google.pubsub_v1 import types

from benchmarks.bridge_arrivals import Arrivals
from benchmarks.settings import ROOT
from worker.bridge.messages.routes import Route
from worker.testing.clients.topics import create_topic

PROJECT = "my-project"
DATA = bytes(784)
WARM_UP_MESSAGES = 200_000
LOOK_S = 0.02
PARTITIONS = 8
PubsubMessage = types.PubsubMessage.pb()


class Ground:
    """A Kafka and a Pub/Sub; each run of a contender gets new topics and subscriptions."""

    def __init__(self, bootstrap: str, host: str, readers: int) -> None:
        """Take both addresses, and the number of streams that count arriving messages."""
        self._bootstrap = bootstrap
        self._readers = readers
        self._host = host
        os.environ["PUBSUB_EMULATOR_HOST"] = host
        self._channel = grpc.insecure_channel(
            host, options=[("grpc.max_receive_message_length", -1)]
        )

    def warm_up(self, n_messages: int) -> None:
        """Send messages to Kafka and read them: a JVM compiles its code while it runs."""
        for _ in range(n_messages // WARM_UP_MESSAGES):
            topic = self._kafka_topic()
            self._fill_kafka(topic, WARM_UP_MESSAGES)
            self._read_kafka(topic, WARM_UP_MESSAGES)

    # the contenders: messages per second, from the first to the last arrival

    def google_publish(self, n_messages: int) -> float:
        topic, subscription = self.topic()
        publisher = PublisherClient()
        with self._counting(subscription, n_messages) as arrivals:
            for _ in range(n_messages):
                publisher.publish(topic, DATA)
            rate = arrivals.rate()
        publisher.stop()
        publisher.transport.close()
        return rate

    def google_subscribe(self, n_messages: int) -> float:
        topic, subscription = self.topic()
        self._fill_pub_sub(topic, n_messages)
        arrivals = Arrivals(n_messages)

        def callback(message: Any) -> None:
            message.ack()
            arrivals.add(1)

        with SubscriberClient() as subscriber:
            pull = subscriber.subscribe(
                subscription, callback, flow_control=FlowControl(max_messages=20_000)
            )
            rate = arrivals.rate()
            pull.cancel()
            pull.result()
        return rate

    def bridge_out(self, n_messages: int) -> float:
        return self._bridge_out(n_messages, "none")

    def bridge_ordered(self, n_messages: int) -> float:
        return self._bridge_out(n_messages, "key")

    def _bridge_out(self, n_messages: int, ordering: str) -> float:
        topic, subscription = self.topic()
        kafka = self._kafka_topic()
        self._fill_kafka(kafka, n_messages)
        route = Route.model_validate(
            {"kafka_topic": kafka, "pub_sub_topic": topic, "ordering": ordering}
        )
        with self._counting(subscription, n_messages) as arrivals, self._bridge(route):
            return arrivals.rate()

    def bridge_in(self, n_messages: int) -> float:
        topic, subscription = self.topic()
        kafka = self._kafka_topic()
        self._fill_pub_sub(topic, n_messages)
        route = Route(kafka_topic=kafka, pub_sub_subscription=subscription)
        with self._bridge(route):
            return self._count_kafka(kafka, n_messages)

    def latencies_ms(self, n_messages: int, per_s: float) -> list[float]:
        """Return how long each message is on its way at a steady rate."""
        topic, subscription = self.topic()
        kafka = self._kafka_topic()
        producer = Producer({"bootstrap.servers": self._bootstrap, "linger.ms": 0})
        came: list[float] = []

        def arrived(messages: Iterable[Any]) -> None:
            now = time.time()
            came.extend((now - float(one.message.data[:20])) * 1000 for one in messages)

        route = Route(kafka_topic=kafka, pub_sub_topic=topic)
        with self._counting(subscription, n_messages, arrived) as arrivals, self._bridge(route):
            time.sleep(3)  # the group has joined
            for _ in range(n_messages):
                producer.produce(kafka, b"%020.6f" % time.time() + DATA[20:])
                producer.poll(1 / per_s)
            producer.flush(10)
            arrivals.rate()
        return came[n_messages // 10 :]

    # topics, messages and counters for the contenders

    def topic(self) -> tuple[str, str]:
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
        return create_topic(self._bootstrap, f"k-{uuid.uuid4().hex[:8]}", PARTITIONS)

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

    def _read_kafka(self, topic: str, n_messages: int) -> None:
        consumer = Consumer({"bootstrap.servers": self._bootstrap, "group.id": "bench"})
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
        while n_messages > 0:
            n_messages -= len(consumer.consume(1000, 1.0))
        consumer.close()

    def _count_kafka(self, topic: str, n_messages: int) -> float:
        """Count by the end offsets of the log; fetching the messages would cost too much."""
        consumer = Consumer({"bootstrap.servers": self._bootstrap, "group.id": "bench"})
        partitions = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        arrivals = Arrivals(n_messages)
        n_seen = 0
        while not arrivals.are_all:
            time.sleep(LOOK_S)
            n_there = sum(consumer.get_watermark_offsets(one)[1] for one in partitions)
            arrivals.add(n_there - n_seen)
            n_seen = n_there
        consumer.close()
        return arrivals.rate()

    @contextmanager
    def _counting(
        self,
        subscription: str,
        n_messages: int,
        arrived: Callable[[Iterable[Any]], object] = bool,
    ) -> Iterator[Arrivals]:
        """Count the messages of a subscription in the background."""
        arrivals, over = Arrivals(n_messages), threading.Event()
        request = types.StreamingPullRequest.pb()

        def requests() -> Iterator[Any]:
            yield request(subscription=subscription, stream_ack_deadline_seconds=600)
            over.wait()

        def count(call: Any) -> None:
            try:
                for response in call:
                    arrivals.add(len(response.received_messages))
                    arrived(response.received_messages)
            except grpc.RpcError:
                return

        pull = self._channel.stream_stream(
            "/google.pubsub.v1.Subscriber/StreamingPull",
            request_serializer=request.SerializeToString,
            response_deserializer=types.StreamingPullResponse.pb().FromString,
        )
        calls = [pull(requests()) for _ in range(self._readers)]
        threads = [threading.Thread(target=count, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        yield arrivals
        over.set()
        for call, thread in zip(calls, threads, strict=True):
            call.cancel()
            thread.join()

    @contextmanager
    def _bridge(self, route: Route) -> Iterator[None]:
        """Run the bridge in its own process, like a worker that does nothing else."""
        command = [sys.executable, "-m", "worker.testing.programs.bridge_process"]
        process = subprocess.Popen(
            [*command, self._bootstrap, route.model_dump_json()],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()


@contextmanager
def script(name: str, *options: str) -> Iterator[str]:
    """Run one of the broker scripts and return its address."""
    with ready([str(ROOT / "scripts" / name), "--port", "0", *options]) as address:
        yield address


@contextmanager
def module(name: str) -> Iterator[str]:
    """Run a module that prints its address, and return the address."""
    with ready([sys.executable, "-m", name]) as address:
        yield address


@contextmanager
def ready(command: list[str]) -> Iterator[str]:
    """Run a server until the block ends; yield the address that it prints."""
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
