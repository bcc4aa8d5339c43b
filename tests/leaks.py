"""What a test left running in this process: threads, child processes, sockets."""

from __future__ import annotations

import gc
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

__all__ = ["Leftovers", "command_line", "native_threads"]

ALLOWED_THREADS = ("TMonitor",)  # tqdm's: one a process, for good
ALLOWED_PROCESSES = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")  # the same
POLL_S = 0.05
TASKS = Path("/proc/self/task")
FILES = Path("/proc/self/fd")


@dataclass(frozen=True)
class Leftovers:
    """The threads, child processes and sockets of one moment, each by a readable name."""

    found: dict[object, str]

    @classmethod
    def now(cls) -> Self:
        """Take stock of this process; costs well under a millisecond where there are none."""
        found: dict[object, str] = {}
        for thread in threading.enumerate():
            if type(thread).__name__ not in ALLOWED_THREADS:
                found["thread", thread.ident] = f"thread {thread.name!r}"
        this = psutil.Process()
        for child in this.children(recursive=True) if may_have_children() else ():
            name = command_line(child)
            if name and not any(allowed in name for allowed in ALLOWED_PROCESSES):
                found["process", child.pid] = f"process {child.pid} ({name[:120]})"
        for socket in this.net_connections(kind="inet") if may_have_sockets() else ():
            if socket.status != psutil.CONN_CLOSE:
                end = socket.raddr or socket.laddr  # a wider fixture's client may connect anew
                found["socket", end] = f"socket {socket.laddr} to {end} {socket.status}"
        return cls(found)

    def since(self, grace_s: float) -> list[str]:
        """Name what is there now and was not then, after waiting `grace_s` for it to go."""
        deadline = time.monotonic() + grace_s
        while True:
            left = [name for key, name in Leftovers.now().found.items() if key not in self.found]
            if not left or time.monotonic() > deadline:
                return left
            gc.collect()  # librdkafka's clients close their sockets when they are collected
            time.sleep(POLL_S)


def may_have_children() -> bool:
    """Return false where Linux knows of no child; psutil would look at every process."""
    try:
        return any((task / "children").read_text() for task in TASKS.iterdir())
    except OSError:
        return True


def may_have_sockets() -> bool:
    """Return false where Linux knows that no file of this process is a socket."""
    try:
        return any(str(file.readlink()).startswith("socket:") for file in FILES.iterdir())
    except OSError:
        return True


def native_threads(name: str = "") -> set[tuple[str, str]]:
    """Return this process's threads, also those of libraries, whose names begin so (Linux).

    Each by its id, which may come again, and its start.
    """
    found = set()
    for task in TASKS.iterdir():
        with suppress(OSError):  # it has ended meanwhile
            head, _, rest = (task / "stat").read_text().rpartition(") ")
            if head.partition("(")[2].startswith(name):
                found.add((task.name, rest.split()[19]))
    return found


def command_line(process: psutil.Process) -> str:
    """Return a process's command line; empty when it is gone or only waits to be reaped."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
