"""Tells on the events topic what becomes of a job, for as long as it takes to be heard."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from worker.backoff import Backoff
from worker.messages.commands import Command, ReloadCheckpoint
from worker.messages.events import EventPublisher
from worker.training.jobs import Job, JobState

__all__ = ["Announcer"]

logger = logging.getLogger(__name__)

FIRST_BACK_OFF_S = 0.5
MAX_BACK_OFF_S = 10.0
_OF_EPOCH = (
    "epoch",
    "num_epochs",
    "train_loss",
    "test_loss",
    "train_metrics",
    "test_metrics",
    "learning_rate",
    "images_per_s",
)


class Announcer:
    """Publishes a job's events in order, each again until the broker has confirmed it.

    Args:
        events: Where they go.
        send_command: Puts a command on the control topic and waits for the confirmation.
        stopping: Set when the worker stops; then what fails is not tried again but raised.
        backoff: Delays between attempts to publish during an outage.
    """

    def __init__(
        self,
        events: EventPublisher,
        send_command: Callable[[Command], Awaitable[object]],
        stopping: asyncio.Event,
        backoff: Backoff | None = None,
    ) -> None:
        self._events = events
        self._send_command = send_command
        self._stopping = stopping
        self._backoff = backoff or Backoff(FIRST_BACK_OFF_S, MAX_BACK_OFF_S)

    async def started(self, job: Job, message: Mapping[str, Any]) -> None:
        """The process has opened the data and begins, or goes on where the job was left."""
        is_again = message["resumed"] or job.attempts > 1
        fields = {name: message[name] for name in ("num_epochs", "n_train", "n_test")}
        fields["epoch"] = message["first_epoch"]
        if is_again and job.reason:
            fields["reason"] = job.reason
        await self._publish("resumed" if is_again else "started", job, **fields)

    async def epoch(self, job: Job, message: Mapping[str, Any]) -> None:
        """An epoch is done."""
        await self._publish("epoch", job, **{name: message[name] for name in _OF_EPOCH})

    async def checkpoint(self, job: Job, message: Mapping[str, Any]) -> None:
        """A checkpoint is on disk."""
        await self._publish("checkpoint", job, **message)

    async def end(self, job: Job, cancelled_by: str | None) -> None:
        """The job has come to its end; a finished training is deployed when that was wanted."""
        about: dict[str, Any] = {"checkpoint": job.checkpoint}
        match job.state:
            case JobState.FINISHED if job.kind == "evaluation":
                about |= {"split": job.split, "images": job.images, "per_class": job.per_class}
                await self._publish("evaluated", job, **about, metrics=job.metrics)
            case JobState.FINISHED:
                await self._publish("finished", job, **about, epoch=job.epoch, metrics=job.metrics)
                await self._deploy(job)
            case JobState.CANCELLED:
                about["id"] = cancelled_by or job.name
                await self._publish("cancelled", job, **about, epoch=job.epoch)
            case _:
                await self._publish("failed", job, **about, reason=job.reason)

    async def _deploy(self, job: Job) -> None:
        if job.deploy == "best" and job.checkpoint is not None:
            command = ReloadCheckpoint(id=f"{job.name}-deploy", checkpoint=job.checkpoint)
            await self._persist(lambda: self._send_command(command))

    async def _publish(self, event: str, job: Job, **fields: Any) -> None:
        about = {"id": job.name, "job": job.name}
        if job.kind == "evaluation":
            del about["job"]
        message = about | fields
        await self._persist(lambda: self._events.publish(event, key=job.name, **message))

    async def _persist(self, send: Callable[[], Awaitable[object]]) -> None:
        """Send until it is confirmed; the job goes on meanwhile."""
        while True:
            try:
                await send()
            except Exception as error:
                if self._stopping.is_set():
                    raise
                delay_s = self._backoff.next_delay_s()
                logger.warning("not confirmed, sent again in delay_s=%.2f: %r", delay_s, error)
                await pause(self._stopping, delay_s)
            else:
                self._backoff.reset()
                return


async def pause(stopping: asyncio.Event, seconds: float) -> None:
    """Wait, but no longer than until the worker stops."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
