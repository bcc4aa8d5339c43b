"""What is done to workers while they serve, and the account of it."""

from __future__ import annotations

import random
import re
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from tests.acceptance.chaos.account import Account, OffsetWatch, wait_until_answered
from tests.acceptance.chaos.load import Load
from tests.acceptance.chaos.models import Images
from tests.deployment import Deployment
from tests.worker_process import WorkerProcess

SETTLE_S = 120.0
END_S = 60.0
"""A worker that cannot go on ends within it."""
IN_FLIGHT = 12 * 256 + 256
"""The most images of one worker that come again: those in hand, and done but not yet committed."""


@dataclass(frozen=True)
class Verdict:
    """What an ordeal has shown."""

    account: Account
    problems: list[str]
    exit_codes: list[int]

    @property
    def answered_over_sent(self) -> float:
        return 1 - len(self.account.missing) / max(1, len(self.account.images))


def ordeal(
    deployment: Deployment,
    images: Images,
    *,
    per_s: float,
    n_workers: int,
    faults: Callable[[Deployment], object],
) -> Verdict:
    """Serve under load while `faults` are done; then stop the workers and check the topics."""
    for _ in range(n_workers):
        deployment.start_worker()
    bootstrap, topic = deployment.kafka, deployment.topic
    with OffsetWatch(bootstrap, topic) as watch:
        with Load(bootstrap, topic, images, per_s) as load:
            faults(deployment)
            n_sent = load.stop()
        running = [worker for worker in deployment.workers if worker.is_running]
        is_through = wait_until_answered(bootstrap, topic, n_sent, SETTLE_S)
        codes = [worker.terminate() for worker in running]
    account = Account.read(bootstrap, topic)
    problems = account.problems(watch.samples)
    if len(account.images) != n_sent:
        problems.append(f"{n_sent} images were sent, and {len(account.images)} are in Kafka")
    if not is_through:
        problems.append(f"not all images were answered within {SETTLE_S:g} s")
    return Verdict(account, problems, codes)


def kills(count: int, pause_s: tuple[float, float], seed: int) -> Callable[[Deployment], None]:
    """Kill a random worker so many times at random moments, and start it again each time."""

    def faults(deployment: Deployment) -> None:
        chance = random.Random(seed)
        for _ in range(count):
            time.sleep(chance.uniform(*pause_s))
            victim = chance.choice([one for one in deployment.workers if one.is_running])
            victim.kill()
            victim.start()
        for worker in deployment.workers:
            worker.wait_ready(END_S)

    return faults


def keep_alive(deployment: Deployment) -> list[int]:
    """Start again, as a supervisor does, each worker that has ended; return their exit codes."""
    codes = []
    for worker in deployment.workers:
        if not worker.is_running:
            codes.append(worker.process.returncode)
            worker.start()
    return codes


def memory_mb(worker: WorkerProcess) -> float:
    """Return a worker's resident memory."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def metric(worker: WorkerProcess, name: str) -> float:
    """Return the sum of a metric over its labels, as `/metrics` shows it."""
    return sum(series(worker, name))


def n_series(worker: WorkerProcess, name: str) -> int:
    """Return how many values a metric has, one for each value of its label."""
    return len(series(worker, name))


def series(worker: WorkerProcess, name: str) -> list[float]:
    """Return a metric's values."""
    url = f"http://127.0.0.1:{worker.web_port}/metrics"
    with urllib.request.urlopen(url, timeout=10.0) as response:
        text = response.read().decode()
    return [float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)]


def limit_messages(bootstrap: str, topic: str, n_bytes: int) -> None:
    """Have a broker refuse what is published to a topic and is larger."""
    entry = ConfigEntry(
        "max.message.bytes", str(n_bytes), incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.incremental_alter_configs([resource])[resource].result(10.0)
