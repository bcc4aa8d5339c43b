"""What every program that a test starts needs: an environment, a port, an end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = [
    "clean_environment",
    "end_session",
    "free_port",
    "session_members",
    "tied_to_this_process",
]

SETTINGS = ("DARKROOM_", "GOOGLE_", "KAFKA_", "PUBSUB_", "PUB_SUB_", "TIMEOUT")
"""How the names of a worker's settings begin."""
PROC = Path("/proc")


def free_port() -> int:
    """Return a TCP port of the loopback interface that is free now."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def clean_environment() -> dict[str, str]:
    """Return this process's environment without any setting of a worker."""
    return {name: text for name, text in os.environ.items() if not name.startswith(SETTINGS)}


def tied_to_this_process() -> list[str]:
    """Return the words to put before a command so that it dies when this process is killed.

    Without setpriv (util-linux) there are none: a killed test run leaves its programs behind.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def session_members(leader: int) -> list[int]:
    """Return the ids of the running processes of a session, its leader left out.

    A process that has ended and is not yet reaped does not count.
    """
    found = []
    for pid, state in _running():
        with suppress(ProcessLookupError, PermissionError):
            if pid != leader and state != "Z" and os.getsid(pid) == leader:
                found.append(pid)
    return found


def end_session(leader: int) -> None:
    """Kill what is left of a session."""
    for pid in session_members(leader):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _running() -> Iterator[tuple[int, str]]:
    """Yield each process's id and the letter of its state."""
    if (PROC / "self" / "stat").exists():
        for folder in PROC.glob("[0-9]*"):
            with suppress(OSError):
                yield int(folder.name), (folder / "stat").read_text().rpartition(") ")[2][0]
        return
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,stat="], capture_output=True, text=True, check=True
    )
    for line in listing.stdout.splitlines():
        pid, state = line.split()
        yield int(pid), state[0]
