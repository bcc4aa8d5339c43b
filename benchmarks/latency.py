"""How long does an image wait for its prediction, with and without a training?

JSON images at a steady 200 per second on one real Kafka, from the producer's call to the arrival of
the prediction at a consumer; all contenders in turns. DARKROOM_BENCH_SECONDS and
DARKROOM_BENCH_ROUNDS shorten a run.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np
import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.bench import Benchmark
from benchmarks.predict import contenders
from benchmarks.settings import setting
from benchmarks.stage import (
    PARTITIONS,
    WORKER,
    Contender,
    Stage,
    message,
    stage,
    steady_rate,
)
from worker.testing.clients.stream_client import StreamClient
from worker.testing.clients.topic_reader import lone_consumer

PER_S = 200.0
SECONDS, ROUNDS, N_BURST = 15, 3, 20_000
REFERENCE = "kafka-python, one at a time"
START_S, END_S = 60.0, 60.0
LONG_TRAINING = {"num_epochs": 10_000, "batch_size": 64, "flip_images": False, "save_freq": 10_000}

Milliseconds = list[float]


@dataclass
class Client:
    """Sends images and waits for their predictions, all in one thread."""

    here: Stage
    topic: str
    answers: str
    sent: dict[str, float] = field(default_factory=dict)
    arrived: dict[str, float] = field(default_factory=dict)
    broker_ms: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bootstrap = {"bootstrap.servers": self.here.kafka.bootstrap}
        self.producer = Producer({**bootstrap, "linger.ms": 0, "acks": "all"})
        self.consumer: Consumer = lone_consumer(self.here.kafka.bootstrap)
        places = [TopicPartition(self.answers, number, 0) for number in range(PARTITIONS)]
        self.consumer.assign(places)

    def send(self, number: int) -> str:
        """Send one image as JSON."""
        value, _ = message("json", self.here.images, number)
        name = str(number)
        self.sent[name] = time.perf_counter()
        self.producer.produce(self.topic, value)
        self.producer.poll(0)
        return name

    def close(self) -> None:
        """Wait for the broker's confirmations, and disconnect."""
        self.producer.flush(10.0)
        self.consumer.close()

    def read(self, timeout_s: float) -> None:
        """Note the predictions that have arrived."""
        for one in self.consumer.consume(500, timeout_s):
            if one.error() is None:
                name = orjson.loads(one.value() or b"{}")["id"]
                self.arrived.setdefault(name, time.perf_counter())
                self.broker_ms.setdefault(name, one.timestamp()[1])

    def wait_for(self, names: Sequence[str], timeout_s: float) -> None:
        """Read until all have their predictions.

        Raises:
            TimeoutError: some have not in time.
        """
        deadline = time.monotonic() + timeout_s
        while not self.arrived.keys() >= set(names):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.answers}: no answer to some of {len(names)} images")
            self.read(0.05)

    def steady(self, first: int, seconds: float) -> Milliseconds:
        """Send 200 images per second and return how long each waited."""
        begin = time.perf_counter()
        names = []
        for number in range(int(seconds * PER_S)):
            while time.perf_counter() < begin + number / PER_S:
                self.read(0.001)
            names.append(self.send(first + number))
        self.wait_for(names, END_S)
        return [(self.arrived[name] - self.sent[name]) * 1000 for name in names]

    def burst(self, first: int, count: int) -> float:
        """Send images as fast as possible and return how many were answered per second."""
        names = [self.send(number) for number in range(first, first + count)]
        self.producer.flush(60.0)
        self.wait_for(names, 2 * END_S)
        return steady_rate([self.broker_ms[name] for name in names])


@contextmanager
def serving(here: Stage, contender: Contender) -> Iterator[Client]:
    """Run a contender on its own topics; yield when it answers, and end it afterwards."""
    name = uuid.uuid4().hex[:6]
    topic, answers = here.create_topic(f"images-{name}"), here.create_topic(f"answers-{name}")
    client = Client(here, topic, answers)
    with closing(client), here.running(contender, topic, answers):
        client.wait_for([client.send(-1)], START_S)
        client.steady(-10_000, 2.0)
        yield client


def measure(bench: Benchmark) -> None:
    """Measure all contenders, then the worker beside a training."""
    seconds, rounds = setting("SECONDS", SECONDS), setting("ROUNDS", ROUNDS)
    p50: dict[str, list[float]] = defaultdict(list)
    p99: dict[str, list[float]] = defaultdict(list)
    rates: dict[str, list[float]] = defaultdict(list)
    with stage() as here:

        def take(who: str, waits: Milliseconds) -> None:
            p50[who].append(float(np.percentile(waits, 50)))
            p99[who].append(float(np.percentile(waits, 99)))
            print(f"{who}: p50 {p50[who][-1]:.1f} p99 {p99[who][-1]:.1f} ms", file=sys.stderr)

        for _ in range(rounds):
            for contender in contenders("json", within_s=0.05):
                with suppress(TimeoutError), serving(here, contender) as client:
                    take(contender.name, client.steady(0, seconds))
                    if contender.name == WORKER:
                        rates["idle"].append(client.burst(10**6, setting("IMAGES", N_BURST)))
            datadir = {"DARKROOM_DATADIR": str(here.folder / "data")}
            busy = Contender(WORKER, environment=datadir)
            with serving(here, busy) as client, training(here, client):
                take("beside a training", client.steady(0, seconds))
                rates["training"].append(client.burst(10**6, setting("IMAGES", N_BURST)))
    for who, values in p50.items():
        bench.row(f"{who}, p50", "ms", values)
        bench.row(f"{who}, p99", "ms", p99[who])
    report(bench, p50, p99, rates)


@contextmanager
def training(here: Stage, client: Client) -> Iterator[None]:
    """Have the worker train; the job is cancelled at the end, or the next worker would go on."""
    bootstrap, job = here.kafka.bootstrap, client.topic
    with StreamClient(bootstrap, client.topic) as control:
        control.command("start-training", id=job, params=LONG_TRAINING)
        control.event("epoch", START_S, job=job)
    yield  # nobody reads the events meanwhile
    with StreamClient(bootstrap, client.topic) as control:
        control.command("stop-training", job=job)
        control.event("cancelled", END_S, job=job)


def report(
    bench: Benchmark,
    p50: dict[str, list[float]],
    p99: dict[str, list[float]],
    rates: dict[str, list[float]],
) -> None:
    """Report the ratios."""
    median = {
        ("p50", who): float(np.median(values)) for who, values in p50.items()
    } | {("p99", who): float(np.median(values)) for who, values in p99.items()}  # fmt: skip
    for quantile, target in (("p50", 1.0), ("p99", 0.5)):
        value = median[quantile, WORKER] / median[quantile, REFERENCE]
        bench.ratio(f"{quantile} over the reference", value, target, at_most=True)
    value = median["p99", "beside a training"] / median["p99", WORKER]
    bench.ratio("p99 beside a training over p99 idle", value, 5.0, at_most=True)
    for who, name in (("idle", "burst, idle"), ("training", "burst, beside a training")):
        bench.row(name, "images/s", rates[who])
    value = float(np.median(rates["training"]) / np.median(rates["idle"]))
    bench.ratio("throughput beside a training over idle", value, 0.5)
