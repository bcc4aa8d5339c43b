"""Models swapped under full load, and what the predictions say of it."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from confluent_kafka.admin import AdminClient, NewTopic
from numpy.typing import NDArray

from tests.acceptance.chaos.account import Account, wait_until_answered
from tests.acceptance.chaos.load import Load
from tests.acceptance.chaos.models import Images, best_of
from tests.deployment import Deployment

PARTITIONS = 8
STEADY_S = 5.0
CLOSE = 0.02


@dataclass(frozen=True)
class Swaps:
    """What 8 partitions of predictions say of a number of swaps; times are the broker's."""

    account: Account
    n_sent: int
    steady_gap_ms: float
    """The longest time without any prediction while nothing was swapped."""
    swap_gap_ms: float
    """The same while models were swapped."""
    wrong_names: int
    """Predictions with scores that the model they name does not give."""
    order: dict[int, list[int]]
    """By partition which swap's model took over one after the other; 0 is the model before all."""

    @property
    def delay_ms(self) -> float:
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
    deployment: Deployment,
    images: Images,
    scores: dict[str, NDArray[np.float32]],
    count: int,
    per_s: float,
) -> Swaps:
    """Swap between the models so many times while images wait to be classified.

    Each swap has a job of its own, a copy of one of the two: its predictions tell it from others.

    Args:
        deployment: It serves the first of the models.
        images: What is sent, over and over.
        scores: By job, NxC float32 probabilities of the images.
        count: How many swaps.
        per_s: Images sent a second.
    """
    jobs = list(scores)
    topic = deployment.topic
    config = {"message.timestamp.type": "LogAppendTime"}
    wanted = NewTopic(f"{topic}-predictions", PARTITIONS, 1, config=config)
    admin = AdminClient({"bootstrap.servers": deployment.kafka})
    admin.create_topics([wanted])[wanted.topic].result()
    worker = deployment.start_worker()
    client = deployment.client
    client.event("reloaded")
    with Load(deployment.kafka, topic, images, per_s) as load:
        time.sleep(2.0)
        begin = time.time()
        time.sleep(STEADY_S)
        swaps_begin = time.time()
        for number in range(1, count + 1):
            original = jobs[number % len(jobs)]
            job = f"{original}-{number}"
            shutil.copytree(deployment.logdir / original, deployment.logdir / job)
            name = client.command("reload-checkpoint", checkpoint=best_of(job))
            client.event("reloaded", id=name)
        swaps_end = time.time()
        n_sent = load.stop()
    assert wait_until_answered(deployment.kafka, topic, n_sent, 120.0)
    assert worker.terminate() == 0
    account = Account.read(deployment.kafka, topic)
    return Swaps(
        account,
        n_sent,
        longest_gap_ms(account, begin, swaps_begin),
        longest_gap_ms(account, swaps_begin, swaps_end),
        wrong_names(account, scores),
        order_of_swaps(account),
    )


def longest_gap_ms(account: Account, begin: float, end: float) -> float:
    """Return the longest time without a prediction between two moments."""
    moments = sorted(one.moment_ms for one in account.answers if one.model)
    inside = [moment for moment in moments if begin * 1000 <= moment <= end * 1000]
    return float(np.diff([begin * 1000, *inside, end * 1000]).max())


def wrong_names(account: Account, scores: dict[str, NDArray[np.float32]]) -> int:
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


def plain_scores(logdir_images: Images, classifier_path: str) -> NDArray[np.float32]:
    """Return the probabilities that a checkpoint gives in float32."""
    import torch  # noqa: PLC0415 - slow to import

    import trainer  # noqa: PLC0415

    checkpoint = trainer.load_checkpoint(classifier_path)
    with torch.inference_mode():
        x = checkpoint.transform()(torch.from_numpy(logdir_images[..., None].copy()))
        result: NDArray[np.float32] = checkpoint.classifier()(x).numpy()
    return result
