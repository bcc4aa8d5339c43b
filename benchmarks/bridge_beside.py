"""How fast a worker classifies with and without a bridge that mirrors other messages."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import Benchmark
from benchmarks.bridge_ground import DATA, PROJECT, Ground
from benchmarks.stage import Contender, Stage, stage

ROUNDS = 2
N_IMAGES = 100_000
PER_S = 2_000
BEATS_PER_S = 20


def serving_beside(bench: Benchmark, fake: str) -> None:
    """Measure images per second with and without a bridge that mirrors 2,000 messages/s."""
    rates: dict[str, list[float]] = {"serving alone": [], "serving beside the bridge": []}
    with stage() as here:
        ground = Ground(here.kafka.bootstrap, fake, readers=1)
        images = here.fill("raw", N_IMAGES)
        for _ in range(ROUNDS):
            alone = Contender("serving alone")
            rates[alone.name].append(here.run(alone, images, N_IMAGES).images_per_s)
            with busy_route(here, ground, fake) as bridging:
                rates[bridging.name].append(here.run(bridging, images, N_IMAGES).images_per_s)
    alone_rate, beside_rate = (
        bench.row(name, "images/s", rate).median for name, rate in rates.items()
    )
    bench.ratio("serving beside 2,000/s over serving alone", beside_rate / alone_rate, 0.8)


@contextmanager
def busy_route(here: Stage, ground: Ground, fake: str) -> Iterator[Contender]:
    """Yield a worker with a route, while a thread sends messages to the route's topic."""
    kafka, (topic, _) = here.create_topic(f"other-{time.time_ns()}"), ground.topic()
    route = {"kafka_topic": kafka, "pub_sub_topic": topic.rpartition("/")[2]}
    environment = {
        "PUBSUB_EMULATOR_HOST": fake,
        "PUB_SUB_PROJECT": PROJECT,
        "DARKROOM_ROUTES": json.dumps([route]),
    }
    over = threading.Event()

    def send() -> None:
        producer = here.producer()
        while not over.wait(1 / BEATS_PER_S):
            for _ in range(PER_S // BEATS_PER_S):
                producer.produce(kafka, DATA)
            producer.poll(0)
        producer.flush(10)

    thread = threading.Thread(target=send)
    thread.start()
    yield Contender("serving beside the bridge", environment=environment)
    over.set()
    thread.join()
