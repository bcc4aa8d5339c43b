"""A deployment that serves under load while something is done to it, and the account of it."""

from __future__ import annotations

from dataclasses import dataclass

from worker.testing.chaos.account import Account
from worker.testing.chaos.faults import Faults
from worker.testing.chaos.image_load import ImageLoad, Pixels
from worker.testing.chaos.offset_watch import OffsetWatch, wait_until_answered
from worker.testing.deployment import LocalDeployment

__all__ = ["IN_FLIGHT", "Verdict", "ordeal"]

SETTLE_S = 120.0
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
    deployment.start_workers(n_workers)
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
