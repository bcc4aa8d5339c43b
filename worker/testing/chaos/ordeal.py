"""What is done to workers while they serve, and the account of it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from worker.testing.chaos.account import Account
from worker.testing.chaos.image_load import ImageLoad, Pixels
from worker.testing.chaos.offset_watch import OffsetWatch, wait_until_answered
from worker.testing.deployment import LocalDeployment

__all__ = ["IN_FLIGHT", "Faults", "Verdict", "keep_alive", "kills", "ordeal"]

Faults = Callable[[LocalDeployment], object]
"""Something that is done to a deployment while it serves."""

SETTLE_S = 120.0
END_S = 60.0
"""A worker that cannot go on ends within it."""
IN_FLIGHT = 12 * 256 + 256
"""The most images of one worker that come again: those in hand, and done but not yet committed."""


@dataclass(frozen=True)
class Verdict:
    """What an ordeal has shown.

    Attributes:
        account: all images and answers.
        problems: what breaks a promise, in words; empty when nothing does.
        exit_codes: of the workers that ran at the end, on SIGTERM.
    """

    account: Account
    problems: list[str]
    exit_codes: list[int]

    @property
    def answered_over_sent(self) -> float:
        """The share of the images that have an answer."""
        return 1 - len(self.account.missing) / max(1, len(self.account.images))


def ordeal(
    deployment: LocalDeployment, images: Pixels, *, per_s: float, n_workers: int, faults: Faults
) -> Verdict:
    """Serve under load while `faults` are done; then stop the workers and check the topics.

    Args:
        deployment: on a real Kafka, with a deployed classifier and without workers.
        images: grey images (N, 28, 28), sent over and over.
        per_s: images per second.
        n_workers: how many workers serve.
        faults: done while the load comes; the load ends when they are over.
    """
    for _ in range(n_workers):
        deployment.start_worker()
    bootstrap, topic = deployment.kafka, deployment.topic
    with OffsetWatch(bootstrap, topic) as watch:
        with ImageLoad(bootstrap, topic, images, per_s) as load:
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


def kills(count: int, pause_s: tuple[float, float], seed: int) -> Faults:
    """Return faults that kill a random worker again and again and start it again each time.

    Args:
        count: how many kills.
        pause_s: shortest and longest time before a kill.
        seed: of the choice of workers and moments.
    """

    def faults(deployment: LocalDeployment) -> None:
        chance = random.Random(seed)
        for _ in range(count):
            time.sleep(chance.uniform(*pause_s))  # the moment of the kill is what is tried
            victim = chance.choice([one for one in deployment.workers if one.is_running])
            victim.kill()
            victim.start()
        for worker in deployment.workers:
            worker.wait_ready(END_S)

    return faults


def keep_alive(deployment: LocalDeployment) -> list[int]:
    """Start again, as a supervisor does, each worker that has ended; return their exit codes."""
    codes = []
    for worker in deployment.workers:
        if not worker.is_running:
            codes.append(worker.process.returncode)
            worker.start()
    return codes
