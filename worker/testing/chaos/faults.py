"""What is done to a deployment while it serves: kills, stops, workers that come and go."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from confluent_kafka import KafkaException

from worker.testing.clients.topic_reader import count_messages
from worker.testing.deployment import LocalDeployment
from worker.testing.programs.waiting import wait_until

__all__ = [
    "END_S",
    "Faults",
    "keep_alive",
    "kills",
    "supervise",
    "supervise_until_serving",
    "terminations",
    "visits",
    "wait_until_serving",
]

Faults = Callable[[LocalDeployment], object]
"""Something that is done to a deployment while it serves."""

END_S = 60.0
"""A worker that cannot go on ends within it."""
POLL_S = 0.2


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


def terminations(count: int, exit_codes: list[int]) -> Faults:
    """Return faults that end one worker after the other with SIGTERM and start it again.

    Args:
        count: how many terminations.
        exit_codes: gets the exit code of each.
    """

    def faults(deployment: LocalDeployment) -> None:
        wait_until_serving(deployment)
        for number in range(count):
            worker = deployment.workers[number % len(deployment.workers)]
            exit_codes.append(worker.terminate())
            worker.start().wait_ready(END_S)

    return faults


def visits(count: int) -> Faults:
    """Return faults in which one more worker comes and goes: two rebalances each time."""

    def faults(deployment: LocalDeployment) -> None:
        visitor = deployment.start_worker()
        for _ in range(count - 1):
            visitor.terminate()
            visitor.start().wait_ready(END_S)
        visitor.terminate()

    return faults


def keep_alive(deployment: LocalDeployment) -> list[int]:
    """Start again, as a supervisor does, each worker that has ended; return their exit codes."""
    codes = []
    for worker in deployment.workers:
        if not worker.is_running:
            codes.append(worker.process.returncode)
            worker.start()
    return codes


def supervise(
    deployment: LocalDeployment, is_enough: Callable[[], object], timeout_s: float = 2 * END_S
) -> list[int]:
    """Start workers again that end, until it is enough; return their exit codes.

    Raises:
        TimeoutError: it is not enough in time.
    """
    codes: list[int] = []

    def check() -> object:
        codes.extend(keep_alive(deployment))
        return is_enough()

    wait_until("end of the supervision", check, timeout_s, poll_s=POLL_S)
    return codes


def supervise_until_serving(deployment: LocalDeployment, n_images: int) -> list[int]:
    """Start workers again that end, until `n_images` more are predicted; return exit codes."""
    wanted = n_predictions(deployment) + n_images
    return supervise(deployment, lambda: n_predictions(deployment) >= wanted)


def wait_until_serving(deployment: LocalDeployment, n_images: int = 200) -> None:
    """Wait until `n_images` are predicted."""
    wait_until(
        "predictions", lambda: n_predictions(deployment) >= n_images, 2 * END_S, poll_s=POLL_S
    )


def n_predictions(deployment: LocalDeployment) -> int:
    """Return how many predictions a deployment has published, as soon as the broker says it."""

    def ask() -> tuple[int] | None:
        try:
            return (count_messages(deployment.kafka, f"{deployment.topic}-predictions"),)
        except KafkaException:
            return None  # the broker is away, or only just back

    return wait_until("answer of the broker", ask, END_S)[0]
