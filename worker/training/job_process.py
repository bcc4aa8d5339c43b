"""A job's process as its worker sees it: start, read, stop it, and learn how it ended."""

import asyncio
import multiprocessing
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from typing import Self

from worker.errors import WorkerError
from worker.training.jobs.ledger import Lock
from worker.training.process.exits import how_it_ended
from worker.training.process.main import main
from worker.training.process.messages import (
    JobReport,
    Outcome,
    Pulse,
    Stop,
    Task,
    from_line,
    to_line,
)

__all__ = ["JobProcess", "ProcessDied", "ProcessHung"]

EXIT_S = 2.0
LINGER_S = 1.0  # a process that has sent its outcome only has to be torn down
MAX_LINE = 2**26  # an outcome has the metrics of each class


class ProcessDied(WorkerError):  # noqa: N818 - says what happened
    """The process ended without an outcome; the text says by what."""


class ProcessHung(WorkerError):  # noqa: N818 - says what happened
    """The process gave no sign of life for too long."""


class JobProcess:
    """One job in one spawned process. Made by `start`, always to be closed by `close`."""

    def __init__(
        self, process: BaseProcess, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._outcome: Outcome | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(process.sentinel, self._reap)

    @classmethod
    async def start(cls, task: Task, lock: Lock) -> Self:
        """Start the process and give it the job's lock, which it holds as long as it lives.

        Raises:
            OSError: The system has no room for another process.
        """
        here, there = socket.socketpair()
        with there:  # closed here, else the stream would not end when the process dies
            try:
                socket.send_fds(here, [b"l"], [lock.fileno()])
                context = multiprocessing.get_context("spawn")
                process = context.Process(target=main, args=(there, task))
                with _signals_blocked():
                    process.start()
            except BaseException:
                here.close()
                raise
        here.settimeout(0)
        reader, writer = await asyncio.open_connection(sock=here, limit=MAX_LINE)
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process.pid is not None
        return self._process.pid

    async def messages(self, hang_s: float) -> AsyncIterator[JobReport]:
        """Yield what the process reports, until it has sent its outcome or is dead.

        Args:
            hang_s: Seconds without any message, pulses included, after which it counts as hung.

        Raises:
            ProcessHung: It sent nothing for `hang_s` seconds.
        """
        while True:
            try:
                async with asyncio.timeout(hang_s):
                    line = await self._reader.readline()
            except TimeoutError:
                raise ProcessHung(f"no progress for {hang_s:g} s; the process was ended") from None
            except ConnectionError:
                return
            if not line.endswith(b"\n"):
                return  # the end, or half a line of a process that died while it wrote
            match from_line(line):
                case Outcome() as outcome:
                    self._outcome = outcome
                case Pulse() | Stop():
                    continue
                case report:
                    yield report

    async def outcome(self) -> Outcome:
        """Return how the job went, once `messages` has come to its end.

        Raises:
            ProcessDied: The process died before it sent its outcome.
        """
        if self._outcome is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(EXIT_S):
                    await self._ended.wait()
            raise ProcessDied(f"the process {how_it_ended(self._process.exitcode)}")
        if self._outcome.status == "died":
            raise ProcessDied(self._outcome.reason or "")
        return self._outcome

    def stop(self, timeout_s: float) -> None:
        """Ask the process to save and end; after `timeout_s` seconds it is killed."""
        if self._deadline is None:
            with suppress(OSError, RuntimeError):  # it is dead already
                self._writer.write(to_line(Stop()))
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(timeout_s, self.kill)

    def kill(self) -> None:
        """End the process now, also a stopped (SIGSTOP) or hanging one."""
        with suppress(ValueError):  # closed already
            self._process.kill()

    async def close(self) -> None:
        """Wait for the process's end, which is forced without an outcome, and free everything."""
        if self._outcome is None:
            self.kill()
        last_resort = asyncio.get_running_loop().call_later(LINGER_S, self.kill)
        try:
            await self._ended.wait()
            self._process.close()
        finally:
            last_resort.cancel()
            if self._deadline is not None:
                self._deadline.cancel()
            self._writer.close()
            with suppress(ConnectionError):
                await self._writer.wait_closed()

    def _reap(self) -> None:
        """Take the exit code, in this thread only: a second one would find no child to wait for."""
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        self._process.join()
        self._ended.set()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Let a process begin with SIGINT and SIGTERM blocked, until it ignores them.

    At a Ctrl-C both go to the whole process group, and would end a process that is still starting.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
