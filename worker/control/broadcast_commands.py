"""Commands that every worker does for itself, each with its own answer."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from worker.errors import WorkerError
from worker.images.deployment import Deployment
from worker.images.deployment_record import Order
from worker.messages.commands import Command, ReloadCheckpoint, Rollback, Status, StopTraining
from worker.messages.events import EventPublisher
from worker.training.jobs.job import Job
from worker.training.jobs.ledger import Ledger
from worker.training.runner import Runner

__all__ = ["BroadcastCommands"]

MAX_ENDED_JOBS = 50
"""How many of the jobs that have ended are part of a status."""
MAX_DONE_IDS = 10_000


class BroadcastCommands:
    """Does in this worker what every worker does, and answers for this worker.

    Args:
        partitions: Returns the partitions of the images topic that this worker has now.
        versions: Versions of the packages that matter, by name.
    """

    def __init__(
        self,
        deployment: Deployment,
        ledger: Ledger,
        events: EventPublisher,
        runner: Runner,
        *,
        partitions: Callable[[], Sequence[int]],
        versions: Mapping[str, str],
    ) -> None:
        self._deployment = deployment
        self._ledger = ledger
        self._events = events
        self._runner = runner
        self._partitions = partitions
        self._versions = versions
        self._done: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def handle(self, command: Command, order: Order) -> None:
        """Do one command.

        Raises:
            Exception: What the broker's client raises when the answer cannot be delivered.
        """
        match command:
            case ReloadCheckpoint() if self._is_first(command):
                await self._reload(command, order)
            case Rollback() if self._is_first(command):
                await self._rollback(command, order)
            case StopTraining():
                self._runner.cancel(command.job, command.id)
            case Status():
                await self._publish_status(command)
            case _:
                pass  # a command for one worker, or a second delivery

    async def catch_up(self) -> None:
        """Serve what is deployed, if this worker does not serve it yet, and publish that.

        Raises:
            Exception: What the broker's client raises when the answer cannot be delivered.
        """
        key = self._events.worker
        try:
            model = await self._deployment.catch_up()
        except WorkerError as error:
            await self._events.publish("reload-failed", key=key, reason=str(error))
        else:
            if model is not None:
                await self._events.publish("reloaded", key=key, **model.as_event())

    def _is_first(self, command: Command) -> bool:
        key = (command.command, command.id)
        if key in self._done:
            return False
        self._done[key] = None
        if len(self._done) > MAX_DONE_IDS:
            self._done.popitem(last=False)
        return True

    async def _reload(self, command: ReloadCheckpoint, order: Order) -> None:
        try:
            model = await self._deployment.reload(
                command.path, job=command.job, order=order, force=command.force
            )
        except WorkerError as error:
            await self._answer("reload-failed", command, reason=str(error))
        else:
            await self._answer("reloaded", command, **model.as_event())

    async def _rollback(self, command: Rollback, order: Order) -> None:
        try:
            model = await self._deployment.rollback(order=order)
        except WorkerError as error:
            await self._answer("reload-failed", command, reason=str(error))
        else:
            await self._answer("rolled-back", command, **model.as_event())

    async def _publish_status(self, command: Status) -> None:
        model = self._deployment.current
        jobs = await asyncio.to_thread(self._ledger.jobs)
        await self._answer(
            "status",
            command,
            **(model.as_event() if model else {"model": None, "checkpoint": None}),
            jobs=[_summary(job) for job in _most_relevant(jobs)],
            partitions=sorted(self._partitions()),
            versions=dict(self._versions),
        )

    async def _answer(self, event: str, command: Command, **fields: Any) -> None:
        await self._events.publish(event, key=self._events.worker, id=command.id, **fields)


def _summary(job: Job) -> dict[str, Any]:
    fields = {"state", "kind", "epoch", "num_epochs", "checkpoint", "reason", "worker"}
    return {"job": job.name, **job.model_dump(mode="json", include=fields)}


def _most_relevant(jobs: Sequence[Job]) -> list[Job]:
    """Return the latest of the jobs that have ended, then those that have not."""
    open_jobs = [job for job in jobs if not job.state.is_final]
    ended = [job for job in jobs if job.state.is_final]
    return ended[-MAX_ENDED_JOBS:] + open_jobs
