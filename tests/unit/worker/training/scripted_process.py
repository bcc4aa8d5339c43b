"""A job's process that does what a test scripts, in place of a real one.

It keeps the real one's promises: both pass `process_contract.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Callable

from tests.job_room import Room
from worker.training.job_process import ProcessDied, ProcessHung
from worker.training.jobs.ledger import Lock
from worker.training.process.exits import how_it_ended
from worker.training.process.messages import (
    JobCheckpoint,
    JobEpoch,
    JobReport,
    JobStarted,
    Outcome,
    ProcessMessage,
    Pulse,
    Task,
)

Script = Callable[["ScriptedProcess"], AsyncIterator[ProcessMessage]]
"""Yields the messages of a process, its outcome last."""

_pids = itertools.count(1)


class Death(Exception):  # noqa: N818
    """Raised by a script: the process ends without an outcome."""

    def __init__(self, exitcode: int) -> None:
        super().__init__(exitcode)
        self.exitcode = exitcode


class ScriptedProcess:
    """Runs a script; `kill` ends it wherever it is."""

    def __init__(self, script: Script, task: Task) -> None:
        self.task = task
        self.pid = next(_pids)
        self.is_asked_to_stop = asyncio.Event()
        self.is_closed = False
        self._exitcode = 0
        self._outcome: Outcome | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._queue: asyncio.Queue[ProcessMessage | None] = asyncio.Queue()
        self._life = asyncio.create_task(self._live(script))

    async def _live(self, script: Script) -> None:
        try:
            async for message in script(self):
                self._queue.put_nowait(message)
        except Death as death:
            self._exitcode = death.exitcode
        except asyncio.CancelledError:
            self._exitcode = -signal.SIGKILL
        self._queue.put_nowait(None)

    async def messages(self, hang_s: float) -> AsyncIterator[JobReport]:
        while True:
            try:
                async with asyncio.timeout(hang_s):
                    message = await self._queue.get()
            except TimeoutError:
                raise ProcessHung(f"no progress for {hang_s:g} s; the process was ended") from None
            match message:
                case None:
                    return
                case Outcome():
                    self._outcome = message
                case Pulse():
                    continue
                case _:
                    yield message

    async def outcome(self) -> Outcome:
        if self._outcome is None:
            raise ProcessDied(f"the process {how_it_ended(self._exitcode)}")
        return self._outcome

    def stop(self, timeout_s: float) -> None:
        self.is_asked_to_stop.set()
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(timeout_s, self.kill)

    def kill(self) -> None:
        self._life.cancel()

    async def close(self) -> None:
        if self._outcome is None:
            self.kill()
        await self._life
        if self._deadline is not None:
            self._deadline.cancel()
        self.is_closed = True


class Scripts:
    """Starts processes: each new one gets the next script, and the last script is repeated."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = [*scripts]

    async def start(self, task: Task, lock: Lock) -> ScriptedProcess:
        assert lock.fileno() > 0
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        return ScriptedProcess(script, task)


# -- what processes say ------------------------------------------------------------------------


def started(*, resumed: bool = False, first_epoch: int = 0) -> JobStarted:
    return JobStarted(
        num_epochs=3, first_epoch=first_epoch, n_train=500, n_test=100, resumed=resumed
    )


def epoch(number: int) -> JobEpoch:
    return JobEpoch(
        epoch=number,
        num_epochs=3,
        train_loss=0.5,
        test_loss=0.6,
        train_metrics={"accuracy": 0.9},
        test_metrics={"accuracy": 0.8},
        learning_rate=0.1,
        images_per_s=100.0,
    )


def checkpoint(task: Task, number: int, *, is_best: bool = True) -> JobCheckpoint:
    return JobCheckpoint(
        checkpoint=f"{task.job.name}/checkpoints/epoch-{number:05d}.pt",
        epoch=number,
        is_best=is_best,
        metrics={"accuracy": 0.8},
    )


def finished(task: Task, last_epoch: int = 3) -> Outcome:
    return Outcome(
        status="finished",
        epoch=last_epoch,
        num_epochs=last_epoch,
        best=f"{task.job.name}/checkpoints/best.pt",
        metrics={"accuracy": 0.8},
    )


# -- whole lives of processes ------------------------------------------------------------------


async def trains(process: ScriptedProcess) -> AsyncIterator[ProcessMessage]:
    """Train three epochs and finish."""
    yield started()
    for number in (1, 2, 3):
        yield Pulse()
        yield epoch(number)
        yield checkpoint(process.task, number)
    yield finished(process.task)


async def trains_until_stopped(process: ScriptedProcess) -> AsyncIterator[ProcessMessage]:
    """Train one epoch, then on and on; save and end when asked to."""
    yield started()
    yield epoch(1)
    yield checkpoint(process.task, 1)
    await process.is_asked_to_stop.wait()
    yield checkpoint(process.task, 2, is_best=False)
    yield Outcome(status="stopped", epoch=2, num_epochs=3)


async def hangs(process: ScriptedProcess) -> AsyncIterator[ProcessMessage]:
    """Train one epoch, then do nothing, whatever is asked."""
    yield started()
    yield epoch(1)
    yield checkpoint(process.task, 1)
    await asyncio.Event().wait()


async def dies(_process: ScriptedProcess) -> AsyncIterator[ProcessMessage]:
    """Begin, and die before the first checkpoint."""
    yield started()
    raise Death(-signal.SIGABRT)


async def dies_after_a_checkpoint(process: ScriptedProcess) -> AsyncIterator[ProcessMessage]:
    """Train one epoch, save it, and die."""
    yield started()
    yield epoch(1)
    yield checkpoint(process.task, 1)
    raise Death(-signal.SIGKILL)


def fails(reason: str, trace: str | None = None) -> Script:
    """Find out that the task cannot be done."""

    async def script(_process: ScriptedProcess) -> AsyncIterator[ProcessMessage]:
        yield Outcome(status="failed", reason=reason, trace=trace)

    return script


def scripted(room: Room, *scripts: Script) -> Room:
    """Have a room's processes follow these scripts, one after the other."""
    room.start_process = Scripts(*scripts).start
    return room
