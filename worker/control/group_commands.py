"""Commands that exactly one worker of the group does, and the rejection of what nobody can do."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
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
from worker.training.jobs import Job, JobDamaged, JobState, Ledger
from worker.training.runner import Runner

__all__ = ["GroupCommands"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


class GroupCommands:
    """Does what exactly one worker of the group must do, and rejects what nobody can do.

    Args:
        defaults: The trainer's params that a command's own are laid over.
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
        """Do one command. When this returns it may be acknowledged: it is on disk, or refused.

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
                await self._start_training(command)
            case StopTraining():
                await self._stop_training(command)
            case Evaluate():
                await self._evaluate(command)
            case ReloadCheckpoint():
                await self._on_disk(self._check_is_inside, command.path)
            case Rollback() | Status():
                pass  # every worker does these

    async def _reject(self, command_id: str, reason: str) -> None:
        logger.info("id=%s: rejected: %s", command_id, reason)
        await self._events.publish("rejected", key=command_id, id=command_id, reason=reason)

    # -- jobs ----------------------------------------------------------------------------------

    async def _start_training(self, command: StartTraining) -> None:
        if await self._is_known(command.id, "training"):
            return
        if command.processes > 1:
            raise BadCommand(
                f"processes: {command.processes} cannot be had yet; a job trains in 1 process"
            )
        params = {**self._defaults, **command.params}
        await _check(params)
        await self._accept(Job(name=command.id, params=params, deploy=command.deploy))

    async def _evaluate(self, command: Evaluate) -> None:
        if await self._is_known(command.id, "evaluation"):
            return
        await self._on_disk(self._check_is_inside, command.path)
        job = Job(name=command.id, kind="evaluation", checkpoint=command.path, split=command.kind)
        await self._accept(job)

    async def _is_known(self, name: str, kind: str) -> bool:
        """Whether the command was accepted before, and this is its second delivery."""
        job = await self._on_disk(self._ledger.read, name)
        if job is not None and job.kind != kind:
            raise BadCommand(f"id: {name!r} is the id of another {job.kind}; choose a new one")
        if job is None and await self._on_disk(self._ledger.is_foreign, name):
            raise BadCommand(
                f"id: {name!r} is in use in the log directory for something that is no job; "
                "choose another id"
            )
        return job is not None and job.told is not None

    async def _on_disk(self, work: Callable[..., T], *arguments: object) -> T:
        """Work with the log directory, in a thread.

        Raises:
            BadCommand: The directory does not let us; serving goes on, so the worker lives.
        """
        try:
            return await asyncio.to_thread(work, *arguments)
        except JobDamaged as error:
            raise BadCommand(str(error)) from error
        except OSError as error:  # such as a full disk
            raise BadCommand(
                f"the log directory cannot be used ({error}); send the command again when it can"
            ) from error

    async def _accept(self, job: Job) -> None:
        """Keep the job, then say so; held locked meanwhile, so that nothing is told before."""
        lock = await self._on_disk(self._ledger.lock, job.name)
        if lock is None:
            return  # it was kept before its worker died, and another works on it already
        with lock:
            await self._keep(job)
        self._runner.wake()

    async def _keep(self, job: Job) -> None:
        kept = await self._on_disk(self._ledger.read, job.name)
        if kept is None:
            new = job.replaced(accepted_at=self._ledger.clock(), worker=self._events.worker)
            kept = await self._on_disk(self._ledger.write, new)
        if kept.told is not None:
            return
        about = {"id": job.name} if job.kind == "evaluation" else {"id": job.name, "job": job.name}
        await self._events.publish("accepted", key=job.name, **about)
        if not kept.state.is_final:  # else its end is still to be told
            with contextlib.suppress(OSError):  # it is accepted; at worst that is told twice
                await asyncio.to_thread(self._ledger.write, kept.replaced(told=JobState.ACCEPTED))

    async def _stop_training(self, command: StopTraining) -> None:
        job = await self._on_disk(self._ledger.read, command.job)
        if job is None:
            raise BadCommand(await self._on_disk(self._unknown, command.job))
        asked_by = await self._on_disk(self._ledger.asked_to_stop, command.job)
        if asked_by == command.id:
            return
        if job.state.is_final:
            raise BadCommand(f"job: {job.name!r} is {job.state} already")
        if asked_by is None:
            await self._on_disk(self._ledger.ask_to_stop, command.job, command.id)
        self._runner.cancel(command.job, command.id)
        self._runner.wake()

    def _unknown(self, name: str) -> str:
        names = [job.name for job in self._ledger.jobs()]
        hint = trainer.did_you_mean(name, names) or "; status lists the jobs"
        return f"job: {name!r} is not known{hint}"

    def _check_is_inside(self, checkpoint: str) -> None:
        logdir = self._ledger.logdir.resolve()
        if not (logdir / checkpoint).resolve().is_relative_to(logdir):
            raise BadCommand(
                f"checkpoint: {checkpoint!r} lies outside the log directory; "
                "give a path in it, such as JOB/checkpoints/best.pt"
            )


async def _check(params: Mapping[str, Any]) -> None:
    try:
        # in a thread: it imports torch, which takes a second or two
        await asyncio.to_thread(trainer.Params.validate_all, params)
    except trainer.ParamsError as error:
        raise BadCommand(f"params: {error}") from error
    except Exception as error:
        # a command must not end the worker, which would only get it again and again
        logger.exception("params that cannot be checked")
        raise BadCommand(f"params: cannot be checked ({error!r}); see the worker's log") from error
