"""A worker on this machine, on its embedded broker, in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Self

STOP_TIMEOUT_S = 20.0
SETTINGS = ("DARKROOM_", "GOOGLE_", "KAFKA_", "PUB_SUB_", "TIMEOUT")


class WorkerEndedError(Exception):
    """The worker is not there any more; has the end of its log."""


class LocalWorker:
    """`faust -A worker worker` with its logs, data and output under one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logdir = folder / "logs"
        self.datadir = folder / "data"
        self.log_file = folder / "worker.log"
        self.web_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """What the worker is told; nothing that happens to be set for another one."""
        inherited = {key: text for key, text in os.environ.items() if not key.startswith(SETTINGS)}
        return inherited | {
            "KAFKA_HOST": "embedded",
            "DARKROOM_LOGDIR": str(self.logdir),
            "DARKROOM_DATADIR": str(self.datadir),
        }

    def start(self, timeout_s: float = 60.0) -> str:
        """Start it, wait until it is ready, and return its broker's address.

        Raises:
            WorkerEndedError: it ended instead, or is not ready in time.
        """
        faust = str(Path(sys.executable).with_name("faust"))
        self._output = self.log_file.open("wb")
        self._process = subprocess.Popen(
            [faust, "-A", "worker", "worker", "--web-port", str(self.web_port), "-l", "info"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the demo, which then stops the worker
        )
        deadline = time.monotonic() + timeout_s
        while "[^Worker]: Ready" not in self.log:
            self.check()
            if time.monotonic() > deadline:
                raise WorkerEndedError(self.report(f"is not ready after {timeout_s:g} s"))
            time.sleep(0.02)
        return str(json.loads((self.logdir / "broker.json").read_text())["bootstrap"])

    @property
    def log(self) -> str:
        """What the worker has written so far."""
        return self.log_file.read_text(errors="replace")

    def check(self) -> None:
        """Raise WorkerEndedError when the worker is not there any more."""
        if self._process is not None and (code := self._process.poll()) is not None:
            raise WorkerEndedError(self.report(f"ended with exit code {code}"))

    def report(self, problem: str) -> str:
        """Return the problem with the end of the log."""
        tail = "\n".join(self.log.splitlines()[-15:])
        return f"the worker {problem}; the end of {self.log_file}:\n{tail}"

    def stop(self) -> None:
        """Stop it as a supervisor would: SIGTERM, and SIGKILL when that does not help."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        if self._output is not None:
            self._output.close()


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
