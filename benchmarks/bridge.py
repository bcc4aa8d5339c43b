"""How fast does the bridge mirror messages, compared with Google's clients?

Messages have 784 bytes and are counted at the other side; contenders run in turns. Kafka is real
and keeps its log in memory if there is room (TMPDIR=/tmp puts it on the disk). The fake Pub/Sub
runs in its own process, so that the client is the limit; on Google's emulator the emulator is. It
is also measured how many images a worker classifies beside a busy bridge.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.bench import Benchmark
from benchmarks.bridge_beside import serving_beside
from benchmarks.bridge_ground import Ground, module, script

ROUNDS = 5
WARM_UP = 1_000_000  # messages; after them Kafka takes a third of the time per message
ON_FAKE = 120_000
BY_GOOGLE = 30_000
ON_EMULATOR = {"out": 30_000, "in": 6_000}
MEMORY = Path("/dev/shm")
LOG_BYTES = 8_000_000_000  # space that a run needs
READERS_ON_EMULATOR = 16  # which gives each stream 2,000 messages per second


def measure(bench: Benchmark) -> None:
    """Fill in the rows and ratios."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory())))
        bootstrap = stack.enter_context(script("start_kafka.sh", "--data", str(folder / "kafka")))
        fake = stack.enter_context(module("worker.testing.fake_pubsub"))
        emulator = stack.enter_context(script("start_pubsub.sh"))
        ground = Ground(bootstrap, fake, readers=1)
        ground.warm_up(WARM_UP)
        on_fake(bench, ground)
        serving_beside(bench, fake)
        on_emulator(bench, Ground(bootstrap, emulator, readers=READERS_ON_EMULATOR))


def memory() -> str | None:
    """Return a folder in memory; None if TMPDIR names another one or memory has no room."""
    if "TMPDIR" in os.environ or not MEMORY.is_dir():
        return None
    return str(MEMORY) if shutil.disk_usage(MEMORY).free > LOG_BYTES else None


def on_fake(bench: Benchmark, ground: Ground) -> None:
    contenders: dict[str, Callable[[int], float]] = {
        "fake: publish()": ground.google_publish,
        "fake: Kafka to Pub/Sub": ground.bridge_out,
        "fake: Kafka to Pub/Sub by 100 keys": ground.bridge_ordered,
        "fake: subscribe()": ground.google_subscribe,
        "fake: Pub/Sub to Kafka": ground.bridge_in,
    }
    sizes = {name: BY_GOOGLE if name.endswith("()") else ON_FAKE for name in contenders}
    rates = in_turns(contenders, sizes)
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
    """Let each contender run once per round, and return its messages per second."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            rates[name].append(run(sizes[name]))
    return rates


def report(bench: Benchmark, rates: dict[str, list[float]]) -> dict[str, float]:
    return {name: bench.row(name, "messages/s", rate).median for name, rate in rates.items()}
