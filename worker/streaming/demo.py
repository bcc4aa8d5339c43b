"""Two demos, one per broker: a producer and a consumer in threads, and the pictures that arrive.

`python -m worker.streaming.demo kafka` and `... pubsub`. Unless the environment names a broker,
each demo starts one in this process.
"""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import confluent_kafka
import orjson
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

from worker.errors import SettingsError
from worker.kafka.connection import Connection
from worker.settings import load_settings
from worker.streaming import kafka, pubsub
from worker.streaming.errors import StreamingError
from worker.streaming.pictures import Gallery, digits
from worker.testing import EmbeddedKafka
from worker.testing.fake_pubsub import FakePubSub

__all__ = ["main"]

PROJECT = "my-project"
TIMEOUT_S = 60.0

count_option = click.option(
    "--count", default=20, show_default=True, type=click.IntRange(1), help="Pictures to send."
)
out_option = click.option(
    "--out",
    default="arrived.png",
    show_default=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the pictures when there is no screen.",
)


class Arrivals:
    """Prints each payload that arrives, and says when all have arrived."""

    def __init__(self, count: int, out: Path) -> None:
        self._count = count
        self._missing = set(range(count))
        self._lock = threading.Lock()
        self.gallery = Gallery(out)
        self.are_complete = threading.Event()

    def take(self, content: bytes) -> None:
        """Take the bytes of one message; a second copy is ignored."""
        payload = orjson.loads(content)
        with self._lock:
            if payload.get("number") not in self._missing:
                return
            self._missing.discard(payload["number"])
            self.gallery.add(payload["image"])
            late_ms = (time.time() - payload["timestamp"]) * 1000
            done = self._count - len(self._missing)
            click.echo(f"arrived {done:3}/{self._count}: a {payload['data']}, {late_ms:.0f} ms")
            if not self._missing:
                self.are_complete.set()


def payloads(count: int) -> Iterator[dict[str, Any]]:
    """Yield `count` payloads, each with a digit."""
    for number, (label, image) in zip(range(count), digits(), strict=False):
        yield {
            "data": label,
            "timestamp": time.time(),
            "image": image.tolist(),
            "number": number,
        }


def run(
    produce: Callable[[], None], consume: Callable[[Arrivals], None], arrivals: Arrivals
) -> None:
    """Run producer and consumer in threads until all pictures have arrived."""
    failures: list[Exception] = []

    def guarded(task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:
            failures.append(error)
            arrivals.are_complete.set()

    tasks = (lambda: consume(arrivals), produce)
    threads = [threading.Thread(target=guarded, args=(task,), daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    is_complete = arrivals.are_complete.wait(TIMEOUT_S)
    if failures:
        raise failures[0]
    if not is_complete:
        raise click.ClickException(f"not all pictures arrived within {TIMEOUT_S:g} s")
    for thread in threads:
        thread.join()
    click.echo(arrivals.gallery.show())


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Send pictures through a broker and show what arrives."""


@main.command("kafka")
@count_option
@out_option
def kafka_demo(count: int, out: Path) -> None:
    """Send pictures through the Kafka of KAFKA_HOST and KAFKA_TOPIC, or an embedded one.

    A secured Kafka is reached by the worker's settings (DARKROOM_KAFKA_...).
    """
    topic = os.environ.get("KAFKA_TOPIC", "python-tester")
    arrivals = Arrivals(count, out)
    with contextlib.ExitStack() as stack, errors_in_one_line():
        connection = load_settings().kafka.connection
        if connection.is_embedded:
            broker = stack.enter_context(EmbeddedKafka())
            broker.create_topic(topic, 2)
            connection = Connection(broker.bootstrap)
            click.echo(f"no KAFKA_HOST: using an embedded Kafka at {broker.bootstrap}, in memory")
        host = connection.hosts
        params = {"KAFKA_HOST": host, "KAFKA_TOPIC": topic}
        client = {**connection.for_confluent(), "log_level": 2}
        producer = confluent_kafka.Producer(client)
        consumer = confluent_kafka.Consumer({**client, "group.id": f"demo-{uuid.uuid4().hex[:8]}"})
        stack.callback(consumer.close)
        skip_to_end(consumer, topic, host)

        def produce() -> None:
            for payload in payloads(count):
                kafka.publish_payload(params, producer, payload, topic)

        def consume(arrivals: Arrivals) -> None:
            def callback(message: Any) -> bool:
                arrivals.take(message.value)
                return not arrivals.are_complete.is_set()

            kafka.consume_payload(params, consumer, topic, callback)

        run(produce, consume, arrivals)


def skip_to_end(consumer: confluent_kafka.Consumer, topic: str, host: str) -> None:
    """Let a consumer read a topic from its end, so that it shows no earlier messages."""
    kafka.require_topic(consumer, topic, host)
    partitions = consumer.list_topics(topic, timeout=10.0).topics[topic].partitions
    ends = []
    for partition in partitions:
        _, end = consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, partition))
        ends.append(confluent_kafka.TopicPartition(topic, partition, end))
    consumer.assign(ends)


@main.command("pubsub")
@count_option
@out_option
def pubsub_demo(count: int, out: Path) -> None:
    """Send pictures through Pub/Sub: PUB_SUB_PROJECT, PUB_SUB_TOPIC and PUB_SUB_SUBSCRIPTION.

    Without a project or an emulator it starts a fake Pub/Sub in this process.
    """
    topic = os.environ.get("PUB_SUB_TOPIC", "python-tester")
    subscription = os.environ.get("PUB_SUB_SUBSCRIPTION", "python-tester-sub")
    project = os.environ.get("PUB_SUB_PROJECT", PROJECT)
    params = {"PUB_SUB_PROJECT": project, "TIMEOUT": 10.0}
    arrivals = Arrivals(count, out)
    with contextlib.ExitStack() as stack, errors_in_one_line():
        if not {"PUB_SUB_PROJECT", "PUBSUB_EMULATOR_HOST"} & set(os.environ):
            server = stack.enter_context(FakePubSub())
            path = f"projects/{project}/topics/{topic}"
            server.create_topic(path)
            server.create_subscription(f"projects/{project}/subscriptions/{subscription}", path)
            os.environ["PUBSUB_EMULATOR_HOST"] = server.host
            stack.callback(os.environ.pop, "PUBSUB_EMULATOR_HOST")
            click.echo(f"no PUB_SUB_PROJECT: using a fake Pub/Sub at {server.host}")
        publisher = PublisherClient()
        stack.callback(publisher.stop)
        subscriber = stack.enter_context(SubscriberClient())

        def produce() -> None:
            for payload in payloads(count):
                pubsub.publish_payload(params, publisher, payload, topic)

        def consume(arrivals: Arrivals) -> None:
            def callback(message: Any) -> None:
                arrivals.take(message.data)
                message.ack()

            while not arrivals.are_complete.is_set():
                turn = params | {"TIMEOUT": 1.0}
                pubsub.consume_payload(turn, subscription, callback, subscriber)

        run(produce, consume, arrivals)


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Show a streaming error as one line, without a traceback."""
    try:
        yield
    except (StreamingError, SettingsError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main(prog_name="python -m worker.streaming.demo")
