"""Publishes what happens to a job, and tries again until the broker has confirmed it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from worker.backoff import Backoff
from worker.messages.commands import Command, ReloadCheckpoint
from worker.messages.events import EventPublisher
from worker.training.jobs.job import Job, JobState
from worker.training.process.messages import JobCheckpoint, JobEpoch, JobStarted

__all__ = ["JobEvents", "pause"]

logger = logging.getLogger(__name__)

FIRST_BACK_OFF_S = 0.5
MAX_BACK_OFF_S = 10.0


class JobEvents:
    """Publishes a job's events in order, each until the broker has confirmed it.

    Args:
        events: Publishes one event.
        send_command: Puts a command on the control topic and waits for the confirmation.
        stopping: Set when the worker stops; then a failure is raised instead of tried again.
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

    async def started(self, job: Job, report: JobStarted) -> None:
        """Publish that the training begins, or goes on where it was left."""
        is_again = report.resumed or job.attempts > 1
        fields = report.model_dump(include={"num_epochs", "n_train", "n_test"})
        fields["epoch"] = report.first_epoch
        if is_again and job.reason:
            fields["reason"] = job.reason
        await self._publish("resumed" if is_again else "started", job, **fields)

    async def epoch(self, job: Job, report: JobEpoch) -> None:
        """Publish the figures of an epoch."""
        await self._publish("epoch", job, **report.model_dump(exclude={"message"}))

    async def checkpoint(self, job: Job, report: JobCheckpoint) -> None:
        """Publish that a checkpoint is on disk."""
        await self._publish("checkpoint", job, **report.model_dump(exclude={"message"}))

    async def end(self, job: Job, cancelled_by: str | None) -> None:
        """Publish how the job ended, and deploy a finished training unless its command forbade it.

        Args:
            job: A job in a final state.
            cancelled_by: The id of the command that cancelled it.
        """
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
        """Send until it is confirmed; the training continues meanwhile."""
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
    """Wait for some seconds, but not after the worker has begun to stop."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
