"""Models swapped under load, and what the predictions say of it."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from trainer import load_checkpoint
from worker.testing.chaos.account import Account
from worker.testing.chaos.image_load import ImageLoad, Pixels
from worker.testing.chaos.offset_watch import wait_until_answered
from worker.testing.clients.topics import create_topic
from worker.testing.deployment import LocalDeployment
from worker.testing.models import best_of
from worker.testing.programs.waiting import wait_until
from worker.testing.programs.worker_process import WorkerProcess

__all__ = ["Swaps", "swap_under_load", "unoptimised_scores"]

PARTITIONS = 8
STEADY_S = 5.0
SETTLE_S = 120.0
CLOSE = 0.02

Scores = Mapping[str, NDArray[np.float32]]
Span = tuple[float, float]
"""When something began and when it ended, in seconds since the epoch."""


@dataclass(frozen=True)
class Swaps:
    """What the predictions say of a number of swaps; times are the broker's.

    Attributes:
        account: all images and answers.
        n_sent: images that were sent.
        steady_gap_ms: longest time without any prediction while nothing was swapped.
        swap_gap_ms: longest time without any prediction while models were swapped.
        wrong_names: number of predictions with scores that the model they name does not give.
        order: by partition, which swap's model took over one after the other; 0 is the model
            before all swaps.
    """

    account: Account
    n_sent: int
    steady_gap_ms: float
    swap_gap_ms: float
    wrong_names: int
    order: dict[int, list[int]]

    @property
    def delay_ms(self) -> float:
        """How much longer images waited while models were swapped."""
        return max(0.0, self.swap_gap_ms - self.steady_gap_ms)

    def out_of_order(self) -> dict[int, list[int]]:
        """Return the partitions where a model comes after a later one.

        A partition leaves out a swap that none of its images came in.
        """
        return {
            partition: order
            for partition, order in self.order.items()
            if order != sorted(set(order))
        }


def swap_under_load(
    deployment: LocalDeployment,
    images: Pixels,
    scores: Scores,
    *,
    count: int,
    per_s: float,
    steady_s: float = STEADY_S,
) -> Swaps:
    """Swap between models again and again while images wait to be classified.

    Each swap has a job of its own, a copy of one of the models, by which its predictions are known.

    Args:
        deployment: on a real Kafka, without workers; serves the first of the models.
        images: grey images (N, 28, 28), sent over and over.
        scores: NxC float32 probabilities of the images, by the job that gives them.
        count: number of swaps.
        per_s: images per second.
        steady_s: how long nothing is swapped, for comparison.
    """
    kafka, topic = deployment.kafka, deployment.topic
    create_topic(kafka, f"{topic}-predictions", PARTITIONS, message_timestamp_type="LogAppendTime")
    worker = deployment.start_worker()
    deployment.client.event("reloaded")
    with ImageLoad(kafka, topic, images, per_s) as load:
        wait_until_steady(worker, per_s)
        steady = during(partial(time.sleep, steady_s))
        swaps = during(partial(swap, deployment, list(scores), count))
        n_sent = load.stop()
    if not wait_until_answered(kafka, topic, n_sent, SETTLE_S):
        raise TimeoutError(worker.report(f"{n_sent} images not answered within {SETTLE_S:g} s"))
    worker.terminate()
    return swaps_of(Account.read(kafka, topic), n_sent, scores, steady, swaps)


def swaps_of(account: Account, n_sent: int, scores: Scores, steady: Span, swaps: Span) -> Swaps:
    """Return what an account says of the time without swaps and of the time with them."""
    return Swaps(
        account,
        n_sent,
        steady_gap_ms=longest_gap_ms(account, *steady),
        swap_gap_ms=longest_gap_ms(account, *swaps),
        wrong_names=wrong_names(account, scores),
        order=order_of_swaps(account),
    )


def wait_until_steady(worker: WorkerProcess, per_s: float) -> None:
    """Wait until a worker has predicted a second's images."""
    wait_until(
        "steady stream of predictions",
        lambda: worker.metric("darkroom_predictions_total") > per_s,
        SETTLE_S,
    )


def during(work: Callable[[], object]) -> Span:
    """Do some work, and return when it began and when it ended."""
    begin = time.time()
    work()
    return begin, time.time()


def swap(deployment: LocalDeployment, jobs: list[str], count: int) -> None:
    """Have a copy of each job in turn served, one after the other."""
    for number in range(1, count + 1):
        original = jobs[number % len(jobs)]
        job = f"{original}-{number}"
        shutil.copytree(deployment.logdir / original, deployment.logdir / job)
        name = deployment.client.command("reload-checkpoint", checkpoint=best_of(job))
        deployment.client.event("reloaded", id=name)


def longest_gap_ms(account: Account, begin: float, end: float) -> float:
    """Return the longest time without a prediction between two moments."""
    moments = sorted(one.moment_ms for one in account.answers if one.model)
    inside = [moment for moment in moments if begin * 1000 <= moment <= end * 1000]
    return float(np.diff([begin * 1000, *inside, end * 1000]).max())


def wrong_names(account: Account, scores: Scores) -> int:
    """Count predictions whose confidence is not that of the model they name."""
    return sum(
        abs(float(known[int(one.id) % len(known)][one.index]) - one.confidence) > CLOSE
        for one in account.answers
        if one.model
        for known in [scores[one.model.partition("-")[0]]]
    )


def order_of_swaps(account: Account) -> dict[int, list[int]]:
    """Return by partition which swap's model took over one after the other."""
    found: dict[int, list[int]] = defaultdict(list)
    for one in account.answers:
        if one.model:
            order, number = found[one.place[1]], int(one.model.partition("-")[2] or 0)
            if order[-1:] != [number]:
                order.append(number)
    return dict(found)


def unoptimised_scores(images: Pixels, checkpoint_path: str) -> NDArray[np.float32]:
    """Return the probabilities (N, C) that a checkpoint gives in float32."""
    import torch  # noqa: PLC0415 - slow to import

    checkpoint = load_checkpoint(checkpoint_path)
    with torch.inference_mode():
        x = checkpoint.transform()(torch.from_numpy(images[..., None].copy()))
        result: NDArray[np.float32] = checkpoint.classifier()(x).numpy()
    return result
