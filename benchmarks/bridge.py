"""How fast does the bridge mirror, against Google's own clients and against bare batches?

784-byte messages, counted at the far end, contenders in turns, on a real Kafka.
The fake Pub/Sub runs in a process of its own, so that the client is the
limit; on Google's emulator the emulator is.
"""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from google.cloud.pubsub_v1.types import FlowControl, PublisherOptions
from google.pubsub_v1 import types

from benchmarks.bench import Benchmark
from worker.bridge.routes import Route
from worker.bridge.service import Bridge, bridge_services

PROJECT = "my-project"
ROUNDS = 3
ON_FAKE = 60_000
ON_EMULATOR = {"out": 20_000, "in": 4_000}
DATA = bytes(784)
PubsubMessage = types.PubsubMessage.pb()


def measure(bench: Benchmark) -> None:
    """Fill in the rows and ratios."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bootstrap = stack.enter_context(script("start_kafka.sh", "--data", str(folder / "kafka")))
        fake = stack.enter_context(module("worker.testing.fake_pubsub"))
        emulator = stack.enter_context(script("start_pubsub.sh"))
        on_fake(bench, Ground(bootstrap, fake))
        on_emulator(bench, Ground(bootstrap, emulator))


def on_fake(bench: Benchmark, ground: Ground) -> None:
    contenders: dict[str, Callable[[int], float]] = {
        "fake: publish()": ground.google_publish,
        "fake: Kafka to Pub/Sub": ground.bridge_out,
        "fake: Kafka to Pub/Sub by 100 keys": ground.bridge_ordered,
        "fake: subscribe()": ground.google_subscribe,
        "fake: Pub/Sub to Kafka": ground.bridge_in,
    }
    rates = in_turns(contenders, dict.fromkeys(contenders, ON_FAKE))
    medians = report(bench, rates)
    out, into = medians["fake: Kafka to Pub/Sub"], medians["fake: Pub/Sub to Kafka"]
    bench.ratio("fake: Kafka to Pub/Sub over publish()", out / medians["fake: publish()"], 0.9)
    bench.ratio("fake: Pub/Sub to Kafka over subscribe()", into / medians["fake: subscribe()"], 0.9)
    bench.ratio("fake: Kafka to Pub/Sub over 60,000/s", out / 60_000, 1.0)
    bench.ratio("fake: Pub/Sub to Kafka over 60,000/s", into / 60_000, 1.0)
    ordered = medians["fake: Kafka to Pub/Sub by 100 keys"]
    bench.ratio("fake: ordered by 100 keys over unordered", ordered / out, 0.5)


def on_emulator(bench: Benchmark, ground: Ground) -> None:
    out, into = ON_EMULATOR["out"], ON_EMULATOR["in"]
    contenders: dict[str, Callable[[int], float]] = {
        "emulator: publish()": ground.google_publish,
        "emulator: Kafka to Pub/Sub": ground.bridge_out,
        "emulator: subscribe()": ground.google_subscribe,
        "emulator: Pub/Sub to Kafka": ground.bridge_in,
    }
    rates = in_turns(contenders, dict(zip(contenders, (out, out, into, into), strict=True)))
    medians = report(bench, rates)
    bench.ratio(
        "emulator: Kafka to Pub/Sub over publish()",
        medians["emulator: Kafka to Pub/Sub"] / medians["emulator: publish()"],
        0.9,
    )
    bench.ratio(
        "emulator: Pub/Sub to Kafka over subscribe()",
        medians["emulator: Pub/Sub to Kafka"] / medians["emulator: subscribe()"],
        0.9,
    )
    latencies = ground.latencies_ms(n_messages=300, per_s=100)
    bench.row("emulator: Kafka to Pub/Sub, latency at 100/s", "ms", latencies)
    p50 = statistics.median(latencies)
    bench.ratio("emulator: latency p50 over 50 ms", p50 / 50, 1.0, at_most=True)


def in_turns(
    contenders: dict[str, Callable[[int], float]], sizes: dict[str, int]
) -> dict[str, list[float]]:
    """Let each contender run once a round, and return the messages a second."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            rates[name].append(sizes[name] / run(sizes[name]))
    return rates


def report(bench: Benchmark, rates: dict[str, list[float]]) -> dict[str, float]:
    return {name: bench.row(name, "messages/s", rate).median for name, rate in rates.items()}


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
