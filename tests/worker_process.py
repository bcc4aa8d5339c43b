"""A worker as its users run it: `faust -A worker worker` in a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self, TypeVar

import psutil

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ("KAFKA_", "PUB_SUB_", "PUBSUB_", "GOOGLE_", "DARKROOM_", "TIMEOUT")

T = TypeVar("T")


def wait_until(what: str, check: Callable[[], T | None], timeout_s: float) -> T:
    """Poll until `check` returns something true, and return it.

    Raises:
        TimeoutError: it did not within `timeout_s`; names what was waited for.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if found := check():
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} within {timeout_s:g} s")
        time.sleep(0.02)


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def clean_environment() -> dict[str, str]:
    """Return this process's environment without any setting of a worker."""
    return {key: value for key, value in os.environ.items() if not key.startswith(PUBLISHED)}


def dies_with_us() -> list[str]:
    """Return the command that ends a program when the test run itself is killed."""
    setpriv = shutil.which("setpriv")  # of util-linux
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


class WorkerProcess:
    """One worker process in a folder, with `logs` and `data` in it and its output in a file.

    It leads a session of its own, so that everything it ever started can be found afterwards.
    """

    def __init__(
        self,
        folder: Path,
        *,
        kafka: str = "embedded",
        topic: str = "images",
        name: str = "worker",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.kafka = kafka
        self.topic = topic
        self.logdir = folder / "logs"
        self.datadir = folder / "data"
        self.log_file = folder / f"{name}.log"
        self.web_port = free_port()
        self.settings = {
            "KAFKA_HOST": kafka,
            "KAFKA_TOPIC": topic,
            "DARKROOM_LOGDIR": str(self.logdir),
            "DARKROOM_DATADIR": str(self.datadir),
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._log_begin = 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.is_running:
            self.terminate()
        self.end_leftovers()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the worker was not started"
        return self._process

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it has written since its start."""
        if not self.log_file.exists():
            return ""
        return self.log_file.read_bytes()[self._log_begin :].decode(errors="replace")

    def start(self) -> Self:
        """Start the worker; its output is added to the log file."""
        command = [str(Path(sys.executable).with_name("faust")), "-A", "worker", "worker"]
        options = ["--web-port", str(self.web_port), "-l", "info"]
        with self.log_file.open("ab") as output:
            self._log_begin = output.tell()
            self._process = subprocess.Popen(
                [*dies_with_us(), *command, *options],
                cwd=self.folder,
                env=clean_environment() | self.settings | {"PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def wait_for_line(self, pattern: str, timeout_s: float = 30.0) -> re.Match[str]:
        """Wait until the log has a line that the pattern matches.

        Raises:
            AssertionError: the worker ended before it, or the time is up; has the end of the log.
        """

        def found() -> re.Match[str] | None:
            running = self.is_running  # before the log is read: a last line must not be missed
            match = re.search(pattern, self.log)
            assert match or running, self.report(f"ended without a line like {pattern!r}")
            return match

        try:
            return wait_until(pattern, found, timeout_s)
        except TimeoutError as error:
            raise AssertionError(self.report(f"no line like {pattern!r} in time")) from error

    def wait_ready(self, timeout_s: float = 30.0) -> Self:
        """Wait until the worker says that it is ready."""
        self.wait_for_line(r"\[\^Worker\]: Ready", timeout_s)
        return self

    @property
    def bootstrap(self) -> str:
        """The broker's address; an embedded one is in the file that the worker writes."""
        if self.kafka != "embedded":
            return self.kafka
        address = self.logdir / "broker.json"
        wait_until("logs/broker.json", address.exists, 30.0)
        return str(json.loads(address.read_text())["bootstrap"])

    def terminate(self, timeout_s: float = 30.0) -> int:
        """Send SIGTERM, wait for the end, and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """Send SIGKILL, as the kernel does to a process that takes too much memory."""
        self.process.kill()
        self.process.wait()

    def wait(self, timeout_s: float) -> int:
        """Wait for the end and return the exit code.

        Raises:
            AssertionError: it does not end in time; it is killed then.
        """
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(self.report(f"still there after {timeout_s:g} s")) from None

    def session(self) -> list[psutil.Process]:
        """Return the processes that the worker started and that still run."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = os.getsid(process.pid) == self.process.pid != process.pid
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found

    def wait_alone(self, timeout_s: float = 5.0) -> None:
        """Wait until nothing that the worker started runs any more.

        Raises:
            AssertionError: something does; names it.
        """
        try:
            wait_until("end of the worker's children", lambda: not self.session(), timeout_s)
        except TimeoutError:
            left = [f"{process.pid} {process.name()}" for process in self.session()]
            raise AssertionError(self.report(f"left running: {left}")) from None

    def end_leftovers(self) -> None:
        """Kill what the worker started and left; a failed test must not disturb the next."""
        for process in self.session():
            process.kill()

    def report(self, problem: str) -> str:
        """Return the problem with the end of the log."""
        tail = "\n".join(self.log.splitlines()[-40:])
        return f"worker {self.log_file.stem}: {problem}\n{tail}"
