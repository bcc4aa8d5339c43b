"""Commands that exactly one worker of the group does; bad commands are rejected."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import trainer
from worker.errors import BadCommand
from worker.messages.commands import (
    Command,
    Evaluate,
    ReloadCheckpoint,
    Rollback,
    StartTraining,
    Status,
    StopTraining,
    parse_command,
)
from worker.messages.events import EventPublisher
from worker.training.jobs.job import Job, JobKind, JobState
from worker.training.jobs.ledger import JobDamaged, Ledger, Lock
from worker.training.jobs.processes import TooManyProcesses, check_processes
from worker.training.runner import Runner

__all__ = ["GroupCommands"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


class GroupCommands:
    """Does what exactly one worker of the group must do, and rejects what no worker can do.

    Args:
        defaults: The trainer's params; those of a command override them.
    """

    def __init__(
        self,
        ledger: Ledger,
        events: EventPublisher,
        runner: Runner,
        *,
        defaults: Mapping[str, Any],
    ) -> None:
        self._ledger = ledger
        self._events = events
        self._runner = runner
        self._defaults = defaults

    async def handle(self, value: bytes | None, default_id: str) -> None:
        """Do one command. Afterwards it may be acknowledged: it is on disk, or rejected.

        Args:
            value: The message as it came.
            default_id: The id of a command that carries none.

        Raises:
            Exception: What the broker's client raises when the answer cannot be delivered.
        """
        command_id = default_id
        try:
            command = parse_command(value, default_id=default_id)
            command_id = command.id
            await self._do(command)
        except BadCommand as problem:
            await self._reject(problem.command_id or command_id, str(problem))

    async def _do(self, command: Command) -> None:
        match command:
            case StartTraining():
                await self._accept(command.id, "training", partial(self._new_training, command))
            case Evaluate():
                await self._accept(command.id, "evaluation", partial(self._new_evaluation, command))
            case StopTraining():
                await self._stop_training(command)
            case ReloadCheckpoint():
                await _on_disk(self._check_is_inside, command.path)
            case Rollback() | Status():
                pass  # every worker does these

    async def _reject(self, command_id: str, reason: str) -> None:
        logger.info("id=%s: rejected: %s", command_id, reason)
        await self._events.publish("rejected", key=command_id, id=command_id, reason=reason)

    # -- jobs ----------------------------------------------------------------------------------

    async def _accept(self, name: str, kind: JobKind, new_job: Callable[[], Job]) -> None:
        """Write a job and publish that; its lock is held, so that no other event comes first.

        Args:
            name: The command's id.
            kind: What the command asks for.
            new_job: Makes the job, or raises `BadCommand`; called in a thread.
        """
        claimed = await _on_disk(self._claim, name, kind, new_job)
        if claimed is None:
            return
        job, lock = claimed
        with lock:
            about = {"id": name} if kind == "evaluation" else {"id": name, "job": name}
            await self._events.publish("accepted", key=name, **about)
            if not job.state.is_final:  # else its end is still to be published
                accepted = job.replaced(published_state=JobState.ACCEPTED)
                with contextlib.suppress(OSError):  # at worst "accepted" is published twice
                    await asyncio.to_thread(self._ledger.write, accepted)
        self._runner.wake()

    def _claim(
        self, name: str, kind: JobKind, new_job: Callable[[], Job]
    ) -> tuple[Job, Lock] | None:
        """Write a job that is new, and return it locked; None when nothing is left to be done."""
        job = self._ledger.read(name)
        if job is not None and job.kind != kind:
            raise BadCommand(f"id: {name!r} is the id of another {job.kind}; choose a new one")
        if job is None and self._ledger.is_foreign(name):
            raise BadCommand(
                f"id: the log directory has a file or folder {name!r} that is not a job; "
                "choose another id"
            )
        if job is not None and job.published_state is not None:
            return None  # a second delivery
        job = new_job()
        lock = self._ledger.lock(name)
        if lock is None:
            return None  # it was written before its worker died, and another works on it already
        try:
            written = self._ledger.read(name) or self._ledger.write(job)
        except BaseException:
            lock.close()
            raise
        if written.published_state is None:
            return written, lock
        lock.close()
        return None

    def _new_training(self, command: StartTraining) -> Job:
        params = {**self._defaults, **command.params}
        _check(params, command.processes)
        return self._new_job(
            name=command.id, params=params, deploy=command.deploy, processes=command.processes
        )

    def _new_evaluation(self, command: Evaluate) -> Job:
        self._check_is_inside(command.path)
        return self._new_job(
            name=command.id, kind="evaluation", checkpoint=command.path, split=command.kind
        )

    def _new_job(self, **fields: Any) -> Job:
        return Job(accepted_at=self._ledger.clock(), worker=self._events.worker, **fields)

    async def _stop_training(self, command: StopTraining) -> None:
        await _on_disk(self._request_stop, command)
        self._runner.cancel(command.job, command.id)
        self._runner.wake()

    def _request_stop(self, command: StopTraining) -> None:
        """Note the request beside the job, where every worker that runs the job finds it."""
        job = self._ledger.read(command.job)
        if job is None:
            names = [known.name for known in self._ledger.jobs()]
            hint = trainer.did_you_mean(command.job, names) or "; status lists the jobs"
            raise BadCommand(f"job: {command.job!r} is not known{hint}")
        request = self._ledger.stop_request(command.job)
        if job.state.is_final and request != command.id:
            raise BadCommand(f"job: {job.name!r} is {job.state} already")
        if request is None:
            self._ledger.request_stop(command.job, command.id)

    def _check_is_inside(self, checkpoint: str) -> None:
        logdir = self._ledger.logdir.resolve()
        if not (logdir / checkpoint).resolve().is_relative_to(logdir):
            raise BadCommand(
                f"checkpoint: {checkpoint!r} lies outside the log directory; "
                "give a path in it, such as JOB/checkpoints/best.pt"
            )


async def _on_disk(work: Callable[..., T], *arguments: object) -> T:
    """Do all that a command needs from the log directory, in one thread.

    Raises:
        BadCommand: The command is wrong, or the directory cannot be used. Serving goes on, so the
            worker must live on too.
    """
    try:
        return await asyncio.to_thread(work, *arguments)
    except JobDamaged as error:
        raise BadCommand(str(error)) from error
    except OSError as error:  # such as a full disk
        raise BadCommand(
            f"the log directory cannot be used ({error}); send the command again when it can"
        ) from error


def _check(params: Mapping[str, Any], processes: int) -> None:
    """Check params as a whole; imports torch, which takes a second or two."""
    try:
        check_processes(processes, trainer.Params.validate_all(params))
    except TooManyProcesses as error:
        raise BadCommand(str(error)) from error
    except trainer.ParamsError as error:
        raise BadCommand(f"params: {error}") from error
    except Exception as error:
        # a command must not end the worker, which would only get it again and again
        logger.exception("params that cannot be checked")
        raise BadCommand(f"params: cannot be checked ({error!r}); see the worker's log") from error
