"""Works through the ledger: takes up jobs that nobody works on, one of a kind at a time.

It promises that a job ends in an event, whatever its process does, and that a worker that is
stopped leaves its jobs ready to be taken up again, by itself or by another worker.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal

import mode

from worker.messages.commands import Command
from worker.messages.events import EventPublisher
from worker.training.announcer import MAX_BACK_OFF_S, Announcer, pause
from worker.training.job_main import Outcome, Task
from worker.training.job_process import JobProcess, ProcessDied, ProcessHung
from worker.training.jobs import Job, JobState, Ledger, Lock

__all__ = ["Runner"]

logger = logging.getLogger(__name__)

MAX_CRASHES = 3
MAX_ATTEMPTS = 10  # higher: it also counts workers that were killed, which is no fault of the job

Kind = Literal["training", "evaluation"]
KINDS: Sequence[Kind] = ("training", "evaluation")


class Runner(mode.Service):
    """Runs the jobs of a ledger, each in a process of its own.

    Args:
        ledger: The jobs; may be shared with other workers' runners.
        events: Where progress is told.
        send_command: Puts a command on the control topic and waits for the confirmation.
        datadir: The images to train on.
        threads: That a job computes with.
        hang_s: A process that is silent for so long is killed, and its job failed.
        stop_timeout_s: How long a process may take to save when it is stopped.
        scan_s: How often the ledger is searched for work.
    """

    def __init__(
        self,
        ledger: Ledger,
        events: EventPublisher,
        *,
        send_command: Callable[[Command], Awaitable[object]],
        datadir: Path,
        threads: int = 1,
        hang_s: float = 600.0,
        stop_timeout_s: float = 6.0,
        scan_s: float = 2.0,
    ) -> None:
        super().__init__()
        self._ledger = ledger
        self._worker = events.worker
        self._datadir = datadir
        self._threads = threads
        self._hang_s = hang_s
        self._stop_timeout_s = stop_timeout_s
        self._scan_s = scan_s
        self._lanes: list[asyncio.Future[None]] = []
        self._wakers = {kind: asyncio.Event() for kind in KINDS}
        self._stopping = asyncio.Event()
        self._announce = Announcer(events, send_command, self._stopping)
        self._running: dict[str, JobProcess] = {}
        self._cancelled_by: dict[str, str] = {}

    # -- its life ------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Begin to work, first on what was left unfinished."""
        self._lanes = [self.add_future(self._work(kind)) for kind in KINDS]

    async def on_stop(self) -> None:
        """Have the processes save and end; their jobs are taken up again after the next start."""
        self.begin_stop()
        if self._lanes:
            await asyncio.wait(self._lanes, timeout=self._stop_timeout_s + 1.0)

    def begin_stop(self) -> None:
        """Start to stop without waiting, so that other parts can stop meanwhile."""
        self._stopping.set()
        for process in self._running.values():
            process.stop(self._stop_timeout_s)
        self.wake()

    # -- for others ----------------------------------------------------------------------------

    @property
    def running(self) -> Mapping[str, int]:
        """The jobs that run here now, and their processes' ids."""
        return {name: process.pid for name, process in self._running.items()}

    def wake(self) -> None:
        """Look into the ledger now: there is something new."""
        for waker in self._wakers.values():
            waker.set()

    def cancel(self, name: str, command_id: str) -> None:
        """Stop a job for good if it runs here; else nothing."""
        process = self._running.get(name)
        if process is not None:
            self._cancelled_by.setdefault(name, command_id)
            process.stop(self._stop_timeout_s)

    # -- the work ------------------------------------------------------------------------------

    async def _work(self, kind: Kind) -> None:
        while not self._stopping.is_set():
            self._wakers[kind].clear()
            claimed = await asyncio.to_thread(self._claim, kind)
            if claimed is None:
                await self._wait_for_work(kind)
                continue
            job, lock = claimed
            try:
                await self._work_on(job, lock)
            except Exception:
                # a full disk, a system out of processes: the job stays in the ledger for later
                logger.exception("job=%s: cannot be worked on now; it is tried again", job.name)
                await pause(self._stopping, MAX_BACK_OFF_S)
            finally:
                lock.close()

    def _claim(self, kind: Kind) -> tuple[Job, Lock] | None:
        """The oldest job of a kind that needs work and has nobody, with its lock."""
        for seen in self._ledger.jobs():
            if seen.kind != kind or not _needs_work(seen):
                continue
            try:
                lock = self._ledger.lock(seen.name)
            except OSError as error:
                logger.warning("job=%s: its lock cannot be taken: %s", seen.name, error)
                continue
            if lock is None:
                continue
            job = self._ledger.read(seen.name)  # another worker may have just finished it
            if job is not None and _needs_work(job):
                return job, lock
            lock.close()
        return None

    async def _wait_for_work(self, kind: Kind) -> None:
        try:
            async with asyncio.timeout(self._scan_s):
                await self._wakers[kind].wait()
        except TimeoutError:
            return

    async def _work_on(self, job: Job, lock: Lock) -> None:
        """Bring a job to its end, unless this worker is stopped before, and tell about it."""
        async with AsyncExitStack() as processes:  # what is told need not wait for their exit
            while not job.state.is_final and not self._stopping.is_set():
                if await self._who_cancelled(job) is not None:
                    job = await self._write(job.replaced(state=JobState.CANCELLED))
                elif job.attempts >= MAX_ATTEMPTS:
                    reason = f"it was started {job.attempts} times and never got to a checkpoint"
                    job = await self._write(job.replaced(state=JobState.FAILED, reason=reason))
                else:
                    job = await self._attempt(job, lock, processes)
            if job.state.is_final:
                await self._conclude(job)

    async def _conclude(self, job: Job) -> None:
        """Tell how the job ended; noted only afterwards, so that it is told whatever dies."""
        await self._announce.end(job, await self._who_cancelled(job))
        await self._write(job.replaced(told=job.state))
        self._cancelled_by.pop(job.name, None)

    async def _attempt(self, job: Job, lock: Lock, processes: AsyncExitStack) -> Job:
        """Run the job once, in a new process."""
        begun = job.replaced(state=JobState.RUNNING, attempts=job.attempts + 1, worker=self._worker)
        job = await self._write(begun)
        task = Task(job, self._ledger.logdir, self._datadir, self._threads)
        process = await JobProcess.start(task, lock)
        processes.push_async_callback(process.close)
        logger.info("job=%s pid=%d: started", job.name, process.pid)
        self._running[job.name] = process
        if self._stopping.is_set():
            process.stop(self._stop_timeout_s)
        try:
            async for message in process.messages(self._hang_s):
                job = await self._hear(job, message, process)
            outcome = await process.outcome()
        except ProcessHung as hung:
            process.kill()
            ended = job.replaced(state=JobState.FAILED, reason=str(hung))
        except ProcessDied as died:
            ended = self._after_death(job, str(died))
        else:
            ended = self._after(job, outcome)
        finally:
            del self._running[job.name]
        return await self._write(await self._cancelled(ended))

    async def _hear(self, job: Job, message: dict[str, Any], process: JobProcess) -> Job:
        """Pass on what the process tells, and keep what must outlive it."""
        match message.pop("message"):
            case "started":
                await self._announce.started(job, message)
            case "epoch":
                job = job.replaced(epoch=message["epoch"], num_epochs=message["num_epochs"])
                await self._announce.epoch(job, message)
            case "checkpoint":
                best = message["checkpoint"] if message["is_best"] else job.checkpoint
                progress = job.replaced(
                    attempts=1, crashes=0, reason=None, epoch=message["epoch"], checkpoint=best
                )
                job = await self._write(progress)
                await self._announce.checkpoint(job, message)
        if await self._who_cancelled(job) is not None:
            process.stop(self._stop_timeout_s)
        return job

    # -- how an attempt ended ------------------------------------------------------------------

    def _after(self, job: Job, outcome: Outcome) -> Job:
        if outcome.trace:
            logger.error("job=%s: %s", job.name, outcome.trace)
        match outcome.status:
            case "failed":
                return job.replaced(state=JobState.FAILED, reason=outcome.reason)
            case "stopped":
                return job.replaced(state=JobState.ACCEPTED, attempts=0, epoch=outcome.epoch)
            case "finished":
                return job.replaced(
                    state=JobState.FINISHED,
                    reason=None,
                    epoch=outcome.epoch,
                    num_epochs=outcome.num_epochs,
                    checkpoint=outcome.best or job.checkpoint,
                    metrics=outcome.metrics,
                    images=outcome.images,
                    per_class=outcome.per_class,
                )

    def _after_death(self, job: Job, reason: str) -> Job:
        if self._stopping.is_set():  # it took too long to save and was killed
            return job.replaced(state=JobState.ACCEPTED)
        crashes = job.crashes + 1
        logger.warning("job=%s crashes=%d: %s", job.name, crashes, reason)
        if crashes < MAX_CRASHES:
            return job.replaced(crashes=crashes, reason=reason)
        reason = f"{reason}; that was {crashes} times without a new checkpoint"
        return job.replaced(state=JobState.FAILED, crashes=crashes, reason=reason)

    async def _cancelled(self, job: Job) -> Job:
        """The job, cancelled if that was wanted and it has not finished all the same."""
        if job.state is JobState.FINISHED or await self._who_cancelled(job) is None:
            return job
        return job.replaced(state=JobState.CANCELLED, reason=None)

    async def _who_cancelled(self, job: Job) -> str | None:
        here = self._cancelled_by.get(job.name)
        return here or await asyncio.to_thread(self._ledger.asked_to_stop, job.name)

    async def _write(self, job: Job) -> Job:
        if job.state.is_final and job.ended_at is None:
            job = job.replaced(ended_at=self._ledger.clock())
        return await asyncio.to_thread(self._ledger.write, job)


def _needs_work(job: Job) -> bool:
    return not job.state.is_final or job.told is not job.state
