"""A job's process as its worker sees it: start it, hear it, stop it, learn how it ended."""

import asyncio
import multiprocessing
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from typing import Any, Self

import orjson

from worker.errors import WorkerError
from worker.training import job_main as child
from worker.training.job_main import Outcome, Task
from worker.training.jobs import Lock

__all__ = ["JobProcess", "ProcessDied", "ProcessHung"]

EXIT_S = 2.0
LINGER_S = 1.0  # a process that has told its outcome has nothing left to do but to be torn down
MAX_LINE = 2**20


class ProcessDied(WorkerError):  # noqa: N818 - says what happened
    """The process ended without an outcome; the text says by what."""


class ProcessHung(WorkerError):  # noqa: N818 - says what happened
    """The process gave no sign of life for too long."""


class JobProcess:
    """One job in one spawned process. Made by `start`, always to be closed by `close`."""

    def __init__(
        self,
        executor: ProcessPoolExecutor,
        process: BaseProcess,
        future: "Future[Outcome]",
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._executor = executor
        self._process = process
        self._future = future
        self._reader = reader
        self._writer = writer
        self._deadline: asyncio.TimerHandle | None = None

    @classmethod
    async def start(cls, task: Task, lock: Lock) -> Self:
        """Start the process and hand it the job's lock, which it holds as long as it lives.

        Raises:
            OSError: When the system has no room for another process.
        """
        here, there = socket.socketpair()
        socket.send_fds(here, [b"l"], [lock.fileno()])
        executor = ProcessPoolExecutor(
            max_workers=1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=child.prepare,
            initargs=(there, task.threads),
        )
        before = set(multiprocessing.active_children())
        try:
            with _signals_held_back():
                future = executor.submit(child.run, task)
        except BaseException:
            here.close()
            raise
        finally:
            there.close()  # else the end of file would never come when the child dies
        (process,) = set(multiprocessing.active_children()) - before
        here.settimeout(0)
        try:
            reader, writer = await asyncio.open_connection(sock=here, limit=MAX_LINE)
        except BaseException:
            process.kill()
            raise
        return cls(executor, process, future, reader, writer)

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process.pid is not None
        return self._process.pid

    async def messages(self, hang_s: float) -> AsyncIterator[dict[str, Any]]:
        """What the process tells, until it has nothing more to tell or is dead.

        Raises:
            ProcessHung: When it is silent for `hang_s` seconds.
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
                return  # the end, or half a line of a process that died writing it
            yield orjson.loads(line)

    async def outcome(self) -> Outcome:
        """How the job went.

        Raises:
            ProcessDied: When the process did not live to tell.
        """
        try:
            return await asyncio.wrap_future(self._future)
        except BrokenProcessPool:
            await asyncio.to_thread(self._process.join, EXIT_S)
            raise ProcessDied(_how_it_died(self._process.exitcode)) from None

    def stop(self, timeout_s: float) -> None:
        """Ask the process to save and end; it is killed when it has not after `timeout_s`."""
        if self._deadline is None:
            with suppress(OSError, RuntimeError):  # it is dead already
                self._writer.write(b"s")
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(timeout_s, self.kill)

    def kill(self) -> None:
        """End it now; a stopped (SIGSTOP) or hanging process too."""
        with suppress(ValueError):  # closed already
            self._process.kill()

    async def close(self) -> None:
        """Leave nothing behind: no process, thread or socket."""
        if not self._future.done():
            self.kill()
        last_resort = asyncio.get_running_loop().call_later(LINGER_S, self.kill)
        try:
            await asyncio.to_thread(self._executor.shutdown)
        finally:
            last_resort.cancel()
            if self._deadline is not None:
                self._deadline.cancel()
            self._writer.close()
            with suppress(ConnectionError):
                await self._writer.wait_closed()


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Let a child begin with SIGINT and SIGTERM blocked, until it has chosen to ignore them.

    Both go to the whole process group at a Ctrl-C, and would end a child that is not up yet.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _how_it_died(exitcode: int | None) -> str:
    if exitcode is None:
        return "the process ended in an unknown way"
    if exitcode >= 0:
        return f"the process ended by itself with exit code {exitcode}"
    name = signal.Signals(-exitcode).name
    if -exitcode == signal.SIGKILL:
        name += " (as the system does when memory runs out, or somebody did it by hand)"
    return f"the process was ended by {name}"
