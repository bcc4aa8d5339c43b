"""Works through the ledger: takes jobs that nobody works on, one of each kind at a time.

It promises that every job ends with an event, whatever its process does, and that a worker that
stops leaves its jobs ready to be taken up again, by itself or by another worker.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import get_args

import mode

from worker.messages.commands import Command
from worker.messages.events import EventPublisher
from worker.training.job_events import JobEvents, pause
from worker.training.job_process import JobProcess, ProcessDied, ProcessHung
from worker.training.jobs.job import Job, JobKind, JobState
from worker.training.jobs.ledger import Ledger, Lock
from worker.training.process.messages import JobCheckpoint, JobEpoch, JobReport, JobStarted, Task
from worker.training.transitions import (
    after_checkpoint,
    after_crash,
    after_epoch,
    after_outcome,
    begin_attempt,
    fail,
)

__all__ = ["Runner", "StartProcess"]

logger = logging.getLogger(__name__)

KINDS: Sequence[JobKind] = get_args(JobKind)

StartProcess = Callable[[Task, Lock], Awaitable[JobProcess]]
"""Starts a job's process and gives it the job's lock."""


class Runner(mode.Service):
    """Runs the jobs of a ledger, each in a process of its own.

    Args:
        ledger: The jobs; other workers' runners may share it.
        events: Publishes what happens to the jobs.
        send_command: Puts a command on the control topic and waits for the confirmation.
        datadir: The images to train on.
        threads: Number of threads that a job computes with.
        hang_s: Seconds without a sign of life, after which a process is killed and its job fails.
        stop_timeout_s: Seconds that a process has to save when it is stopped.
        scan_s: Seconds between two searches of the ledger for work.
        retry_s: Seconds before a job is tried again when the system has no room for it.
        start_process: Starts a job's process.
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
        retry_s: float = 10.0,
        start_process: StartProcess = JobProcess.start,
    ) -> None:
        super().__init__()
        self._ledger = ledger
        self._worker = events.worker
        self._datadir = datadir
        self._threads = threads
        self._hang_s = hang_s
        self._stop_timeout_s = stop_timeout_s
        self._scan_s = scan_s
        self._retry_s = retry_s
        self._start_process = start_process
        self._loops: list[asyncio.Future[None]] = []
        self._wakers = {kind: asyncio.Event() for kind in KINDS}
        self._stopping = asyncio.Event()
        self._events = JobEvents(events, send_command, self._stopping)
        self._running: dict[str, JobProcess] = {}
        self._cancelled_by: dict[str, str] = {}

    # -- its life ------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Begin to work, first on what was left unfinished."""
        self._loops = [self.add_future(self._work(kind)) for kind in KINDS]

    async def on_stop(self) -> None:
        """Have the processes save and end; their jobs are taken up again after the next start."""
        self.begin_stop()
        if self._loops:
            await asyncio.wait(self._loops, timeout=self._stop_timeout_s + 1.0)

    def begin_stop(self) -> None:
        """Start to stop without waiting, so that other parts can stop meanwhile."""
        self._stopping.set()
        for process in self._running.values():
            process.stop(self._stop_timeout_s)
        self.wake()

    # -- for others ----------------------------------------------------------------------------

    def wake(self) -> None:
        """Search the ledger now, because it has something new."""
        for waker in self._wakers.values():
            waker.set()

    def cancel(self, name: str, command_id: str) -> None:
        """Stop a job for good if it runs here; otherwise do nothing."""
        process = self._running.get(name)
        if process is not None:
            self._cancelled_by.setdefault(name, command_id)
            process.stop(self._stop_timeout_s)

    # -- the work ------------------------------------------------------------------------------

    async def _work(self, kind: JobKind) -> None:
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
                await pause(self._stopping, self._retry_s)
            finally:
                lock.close()

    def _claim(self, kind: JobKind) -> tuple[Job, Lock] | None:
        """Return the oldest job of a kind that needs work and has nobody, with its lock."""
        for seen in self._ledger.jobs():
            if seen.kind != kind or not seen.needs_work:
                continue
            try:
                lock = self._ledger.lock(seen.name)
            except OSError as error:
                logger.warning("job=%s: its lock cannot be taken: %s", seen.name, error)
                continue
            if lock is None:
                continue
            job = self._ledger.read(seen.name)  # another worker may have just finished it
            if job is not None and job.needs_work:
                return job, lock
            lock.close()
        return None

    async def _wait_for_work(self, kind: JobKind) -> None:
        try:
            async with asyncio.timeout(self._scan_s):
                await self._wakers[kind].wait()
        except TimeoutError:
            return

    async def _work_on(self, job: Job, lock: Lock) -> None:
        """Bring a job to its end, unless this worker stops before, and publish the end."""
        async with AsyncExitStack() as processes:  # the event need not wait for their exit
            while not job.state.is_final and not self._stopping.is_set():
                job = await self._attempt(job, lock, processes)
            if job.state.is_final:
                # noted only after the event, so that the end is published whatever dies meanwhile
                await self._events.end(job, await self._canceller_of(job))
                await self._write(job.replaced(published_state=job.state))
                self._cancelled_by.pop(job.name, None)

    async def _attempt(self, job: Job, lock: Lock, processes: AsyncExitStack) -> Job:
        """Run the job once, in a new process; return what has become of it."""
        if await self._canceller_of(job) is not None:
            return await self._write(job.replaced(state=JobState.CANCELLED))
        job = await self._write(begin_attempt(job, self._worker))
        if job.state.is_final:
            return job
        task = Task(job, self._ledger.logdir, self._datadir, self._threads)
        process = await self._start_process(task, lock)
        processes.push_async_callback(process.close)
        logger.info("job=%s pid=%d: started", job.name, process.pid)
        self._running[job.name] = process
        if self._stopping.is_set():
            process.stop(self._stop_timeout_s)
        try:
            job = await self._follow(job, process)
        finally:
            del self._running[job.name]
        if job.state is not JobState.FINISHED and await self._canceller_of(job) is not None:
            job = job.replaced(state=JobState.CANCELLED, reason=None)
        return await self._write(job)

    async def _follow(self, job: Job, process: JobProcess) -> Job:
        """Publish what the process reports until it has ended; return the job as it left it."""
        try:
            async for report in process.messages(self._hang_s):
                job = await self._take(job, report)
                if await self._canceller_of(job) is not None:
                    process.stop(self._stop_timeout_s)
            outcome = await process.outcome()
        except ProcessHung as hung:
            process.kill()
            return fail(job, str(hung))
        except ProcessDied as died:
            if self._stopping.is_set():  # it took too long to save and was killed
                return job.replaced(state=JobState.ACCEPTED)
            job = after_crash(job, str(died))
            logger.warning("job=%s crashes=%d: %s", job.name, job.crashes, died)
            return job
        if outcome.trace:
            logger.error("job=%s: %s", job.name, outcome.trace)
        return after_outcome(job, outcome)

    async def _take(self, job: Job, report: JobReport) -> Job:
        """Publish a report, and keep of it what must outlive the process."""
        match report:
            case JobStarted():
                await self._events.started(job, report)
            case JobEpoch():
                job = after_epoch(job, report)
                await self._events.epoch(job, report)
            case JobCheckpoint():
                job = await self._write(after_checkpoint(job, report))
                await self._events.checkpoint(job, report)
        return job

    async def _canceller_of(self, job: Job) -> str | None:
        """Return the id of the command that cancelled a job, or None."""
        here = self._cancelled_by.get(job.name)
        return here or await asyncio.to_thread(self._ledger.stop_request, job.name)

    async def _write(self, job: Job) -> Job:
        if job.state.is_final and job.ended_at is None:
            job = job.replaced(ended_at=self._ledger.clock())
        return await asyncio.to_thread(self._ledger.write, job)
