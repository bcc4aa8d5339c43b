"""A worker as its users run it: `faust -A worker worker` in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

import worker
from worker.kafka.connection import Connection
from worker.settings import load_settings
from worker.testing.programs.growing_log import GrowingLog
from worker.testing.programs.processes import (
    clean_environment,
    end_session,
    free_port,
    session_members,
    tied_to_this_process,
)
from worker.testing.programs.waiting import wait_until

__all__ = ["WorkerEndedError", "WorkerProcess"]

IMPORT_FROM = Path(worker.__file__).resolve().parents[1]
"""The worker that is tested is the one that this package belongs to."""
READY = r"\[\^Worker\]: Ready"
READY_S = 60.0
REPORTED_LINES = 40


class WorkerEndedError(Exception):
    """The worker ended, or did not do in time what was waited for; has the end of its log."""


class WorkerProcess:
    """One worker process in a folder, with `logs` and `data` in it and its output in a file.

    It leads a session of its own, so that everything it ever started can be found afterwards, and
    so that Ctrl-C reaches only the program that started it.

    Args:
        folder: where the worker runs; holds `logs`, `data` and `<name>.log`.
        kafka: value of KAFKA_HOST, such as "localhost:9092" or "embedded".
        topic: the images topic, from which the names of the others derive.
        name: of the log file.
        settings: more environment variables, such as `DARKROOM_TOP_K`.
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
        self.folder = folder = folder.resolve()  # the worker runs in it
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
        self._log = GrowingLog(self.log_file)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- its life ------------------------------------------------------------------------------

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        if self._process is None:
            raise WorkerEndedError(f"worker {self.log_file.stem} was never started: call start()")
        return self._process

    @property
    def is_running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the worker without waiting for it; its output is added to the log file."""
        faust = str(Path(sys.executable).with_name("faust"))
        command = [faust, "-A", "worker", "worker", "--web-port", str(self.web_port), "-l", "info"]
        with self.log_file.open("ab") as output:
            self._log = GrowingLog(self.log_file, output.tell())
            self._process = subprocess.Popen(
                [*tied_to_this_process(), *command],
                cwd=self.folder,
                env=clean_environment() | self.settings | {"PYTHONPATH": str(IMPORT_FROM)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def wait_ready(self, timeout_s: float = READY_S) -> Self:
        """Wait until the worker says that it is ready.

        Raises:
            WorkerEndedError: the worker ended before, or is not ready in time.
        """
        self.wait_for_line(READY, timeout_s)
        return self

    def terminate(self, timeout_s: float = 30.0) -> int:
        """Send SIGTERM as a supervisor does, wait for the end, and return the exit code.

        Raises:
            WorkerEndedError: the worker did not end in time, and was killed.
        """
        self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """Send SIGKILL, as the kernel does to a process that takes too much memory."""
        self.process.kill()
        self.process.wait()

    def wait(self, timeout_s: float) -> int:
        """Wait for the end, and return the exit code.

        Raises:
            WorkerEndedError: the worker did not end in time, and was killed.
        """
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise WorkerEndedError(self.report(f"still there after {timeout_s:g} s")) from None

    def wait_alone(self, timeout_s: float = 5.0) -> None:
        """Wait until nothing that the worker started runs any more.

        Raises:
            WorkerEndedError: something does; names the processes.
        """
        leader = self.process.pid
        try:
            wait_until("end of its children", lambda: not session_members(leader), timeout_s)
        except TimeoutError:
            left = session_members(leader)
            raise WorkerEndedError(self.report(f"left processes running: {left}")) from None

    def close(self) -> None:
        """End the worker and whatever it has left running."""
        try:
            if self.is_running:
                self.terminate()
        finally:
            if self._process is not None:
                end_session(self._process.pid)

    # -- what it says --------------------------------------------------------------------------

    @property
    def log(self) -> str:
        """What the worker has written since its last start."""
        return self._log.text

    def wait_for_line(self, pattern: str, timeout_s: float = 30.0) -> re.Match[str]:
        """Wait until the log has a line that the pattern matches.

        Raises:
            WorkerEndedError: the worker ended before, or wrote no such line in time.
        """

        def found() -> re.Match[str] | None:
            was_running = self.is_running  # asked before the log is read: no line is missed
            match = re.search(pattern, self.log)
            if match is None and not was_running:
                raise WorkerEndedError(self.report(f"ended without a line like {pattern!r}"))
            return match

        try:
            return wait_until(pattern, found, timeout_s)
        except TimeoutError:
            problem = f"wrote no line like {pattern!r} within {timeout_s:g} s"
            raise WorkerEndedError(self.report(problem)) from None

    def check(self) -> None:
        """Raise WorkerEndedError when the worker has ended."""
        if not self.is_running:
            raise WorkerEndedError(self.report(f"ended with exit code {self.process.returncode}"))

    def report(self, problem: str) -> str:
        """Return the problem with the end of the log."""
        tail = "\n".join(self.log.splitlines()[-REPORTED_LINES:])
        return f"worker {self.log_file.stem}: {problem}; the end of {self.log_file}:\n{tail}"

    # -- where it is, what it measures ---------------------------------------------------------

    @property
    def bootstrap(self) -> str:
        """The broker's address; an embedded one is in the file that the worker writes."""
        if self.kafka != "embedded":
            return self.kafka
        address = self.logdir / "broker.json"
        wait_until(str(address), address.exists, READY_S)
        return str(json.loads(address.read_text())["bootstrap"])

    @property
    def connection(self) -> Connection:
        """How the worker reaches its Kafka, for clients beside it."""
        found = load_settings(self.settings).kafka.connection
        return replace(found, hosts=self.bootstrap) if found.is_embedded else found

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels, as `/metrics` shows it; 0 without any."""
        return sum(self.series(name))

    def series(self, name: str) -> list[float]:
        """Return a metric's values, one for each value of its label."""
        url = f"http://127.0.0.1:{self.web_port}/metrics"
        with urllib.request.urlopen(url, timeout=10.0) as response:
            text = response.read().decode()
        found = re.findall(rf"^{re.escape(name)}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
        return [float(value) for value in found]

    def resident_mb(self) -> float:
        """Return the worker's resident memory in MB (Linux)."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
