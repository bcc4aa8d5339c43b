"""The stage of the serving benchmarks: a real Kafka, trained classifiers, images, contenders.

Each contender is a process that consumes a topic which was filled before, and publishes predictions
to its own topic. There they are counted by id and timed by the broker's clock.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from confluent_kafka import Consumer, KafkaException, Producer

from benchmarks.settings import ROOT
from worker.testing.chaos.image_load import Pixels
from worker.testing.clients.topic_reader import lone_consumer, partitions_of, read_all
from worker.testing.clients.topics import create_topic
from worker.testing.digits import write_digits
from worker.testing.labelled_images import LabelledImages
from worker.testing.models import best_of, train_models
from worker.testing.programs.brokers import RealKafka
from worker.testing.programs.processes import clean_environment, free_port

PARTITIONS = 8
THREADS = 2
STALLED_S = 60.0
WARM_UP_SHARE = 0.1
"""Share of the predictions, the first ones, that is not timed."""
IMAGES_IN_A_BATCH = 64
WORKER = "darkroom"
RAW_HEADERS = {"content-type": b"application/octet-stream", "shape": b"28,28"}


@dataclass(frozen=True)
class Contender:
    """Something that consumes images and publishes predictions."""

    name: str
    module: str = ""
    """Module in `benchmarks.peers`; empty for the worker."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """The result of one run of one contender."""

    images_per_s: float
    n_lost: int
    predictions: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Stage:
    """A Kafka, a log folder with deployed classifiers, and test images."""

    folder: Path
    kafka: RealKafka
    logdir: Path
    images: Pixels

    @property
    def checkpoint(self) -> Path:
        return self.logdir / best_of("first")

    def create_topic(self, name: str) -> str:
        """Create a topic whose messages carry the broker's time."""
        kafka = self.kafka.bootstrap
        return create_topic(kafka, name, PARTITIONS, message_timestamp_type="LogAppendTime")

    def fill(self, form: str, n_images: int) -> str:
        """Fill a topic with images, numbered from 0, and return its name."""
        topic = self.create_topic(f"{form}-{uuid.uuid4().hex[:6]}")
        producer = self.producer()
        for number in range(0, n_images, IMAGES_IN_A_BATCH if form == "npy" else 1):
            value, fields = message(form, self.images, number)
            producer.produce(topic, value, headers=list(fields.items()))
            producer.poll(0)
        assert producer.flush(120.0) == 0
        return topic

    def producer(self) -> Producer:
        """Return a producer that loses nothing."""
        return Producer(
            {
                "bootstrap.servers": self.kafka.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 2,
                "queue.buffering.max.messages": 1_000_000,
                "log_level": 0,
            }
        )

    @contextmanager
    def running(self, contender: Contender, topic: str, answers: str) -> Iterator[None]:
        """Run a contender; its output is in a file in the folder."""
        group = f"group-{uuid.uuid4().hex[:6]}"
        paths = [contender.environment.get("PYTHONPATH", ""), str(ROOT)]
        environment = clean_environment() | {
            "OMP_NUM_THREADS": str(THREADS),
            **contender.environment,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        if contender.module:
            module = f"benchmarks.peers.{contender.module}"
            arguments = [self.kafka.bootstrap, topic, answers, group, str(self.checkpoint)]
            command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
        else:
            faust = str(Path(sys.executable).with_name("faust"))
            command = [faust, "-A", "worker", "worker", "--web-port", str(free_port())]
            environment |= {
                "KAFKA_HOST": self.kafka.bootstrap,
                "KAFKA_TOPIC": topic,
                "DARKROOM_LOGDIR": str(self.logdir),
                "DARKROOM_PREDICTIONS_TOPIC": answers,
                "DARKROOM_GROUP": group,
            }
        with (self.folder / f"{contender.name.replace(' ', '-')}.log").open("ab") as output:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=output, stderr=output
            )
            try:
                yield
            finally:
                process.terminate()
                try:
                    process.wait(20.0)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def run(self, contender: Contender, topic: str, n_images: int) -> Run:
        """Let a contender classify a filled topic; count and time its predictions."""
        answers = self.create_topic(f"answers-{uuid.uuid4().hex[:6]}")
        with self.running(contender, topic, answers):
            wait_for_messages(self.kafka.bootstrap, answers, n_images)
        moments: dict[str, int] = {}
        predictions = {}
        for one in read_all(self.kafka.bootstrap, answers):
            content = orjson.loads(one.value)
            if moments.setdefault(content["id"], one.timestamp_ms) >= one.timestamp_ms:
                moments[content["id"]] = one.timestamp_ms
                predictions[content["id"]] = content
        return Run(steady_rate(list(moments.values())), n_images - len(moments), predictions)


def message(form: str, images: Pixels, number: int) -> tuple[bytes, dict[str, bytes]]:
    """Return image `number` (or the batch that begins with it) as a message in one of the forms."""
    image = images[number % len(images)]
    if form == "raw":
        return image.tobytes(), RAW_HEADERS | {"id": str(number).encode()}
    if form == "json":
        content = {"id": str(number), "data": "digit", "timestamp": 0, "image": image.tolist()}
        return orjson.dumps(content), {}
    chosen = np.arange(number, number + IMAGES_IN_A_BATCH) % len(images)
    buffer = io.BytesIO()
    np.save(buffer, images[chosen][..., None])
    return buffer.getvalue(), {"content-type": b"application/x-npy", "id": str(number).encode()}


def steady_rate(moments_ms: Sequence[int]) -> float:
    """Return images per second from the end of the warm-up to the last prediction."""
    in_order = sorted(moments_ms)
    first = int(len(in_order) * WARM_UP_SHARE)
    if len(in_order) - first < 2:
        return 0.0
    seconds = (in_order[-1] - in_order[first]) / 1000
    return (len(in_order) - first) / max(seconds, 0.001)


def n_messages(consumer: Consumer, topic: str) -> int:
    """Return the number of messages in a topic."""
    ends = [
        consumer.get_watermark_offsets(partition, timeout=10.0)
        for partition in partitions_of(consumer, topic)
    ]
    return sum(high - low for low, high in ends)


def wait_for_messages(bootstrap: str, topic: str, count: int) -> None:
    """Wait until a topic has `count` messages, or no new one for a minute."""
    consumer = lone_consumer(bootstrap)
    seen, since = 0, time.monotonic()
    try:
        while seen < count and time.monotonic() - since < STALLED_S:
            with suppress(KafkaException):  # a new topic has no leader for a moment
                now = n_messages(consumer, topic)
                if now > seen:
                    seen, since = now, time.monotonic()
            time.sleep(0.1)
    finally:
        consumer.close()


@contextmanager
def stage(*jobs: str, n_train: int = 4000) -> Iterator[Stage]:
    """Start a Kafka and train a classifier for each job; the first is deployed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_digits(folder / "data", n_train, 200)
        logdir = train_models(folder, jobs or ("first",))
        with RealKafka(folder) as kafka:
            yield Stage(folder, kafka, logdir, LabelledImages.read(folder / "data" / "test").images)
