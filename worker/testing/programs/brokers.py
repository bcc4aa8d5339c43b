"""Real brokers to test on: Apache Kafka and Google's Pub/Sub emulator.

Each is started by the script of Darkroom's repository that users start it with, which needs Java.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self
from unittest import SkipTest

from worker.testing.programs.growing_log import GrowingLog
from worker.testing.programs.processes import clean_environment, tied_to_this_process
from worker.testing.programs.waiting import wait_until
from worker.testing.programs.worker_process import IMPORT_FROM

__all__ = ["BrokerProcess", "BrokerUnavailable", "PubSubEmulator", "RealKafka"]

SCRIPTS = IMPORT_FROM / "scripts"
EX_UNAVAILABLE = 69
KEPT = ("KAFKA_HOME", "KAFKA_HEAP_OPTS", "KAFKA_JVM_PERFORMANCE_OPTS", "PUBSUB_EMULATOR_OPTS")
"""Variables that the scripts read, besides the options."""
READY_S = 120.0  # the first Kafka of a machine is fetched by Maven
STOP_S = 30.0


class BrokerUnavailable(SkipTest):
    """This machine cannot run the broker; says what to install.

    pytest and unittest skip a test that raises it.
    """


class BrokerProcess:
    """A broker that a script runs; its address stays the same when it is started again.

    Args:
        log_file: where the broker's output goes.
        options: of the script.
    """

    script: str
    """Name of the script; it prints `<product> is ready at <host>:<port>`."""

    def __init__(self, log_file: Path, *options: str) -> None:
        self.log_file = log_file
        self.address = ""
        """`host:port`, known from the first start on."""
        self._options = options
        self._log = GrowingLog(log_file)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        """Whether the broker was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What the broker has written, over all its starts."""
        return self._log.text

    def start(self) -> None:
        """Start the broker and wait until it takes connections.

        Raises:
            BrokerUnavailable: this machine lacks what the broker needs.
            RuntimeError: the broker does not start.
        """
        script = SCRIPTS / self.script
        if not script.exists():
            raise BrokerUnavailable(
                f"{script} is not there: it is part of Darkroom's repository and not of the "
                "installed package. Run the tests in a clone, or on a broker that runs already"
            )
        port = self.address.rpartition(":")[2] or "0"
        starts = len(self._ready_addresses())
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as output:
            self._process = subprocess.Popen(
                [*tied_to_this_process(), str(script), "--port", port, *self._options],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_until(
            f"ready line of {self.script}",
            lambda: len(self._ready_addresses()) > starts or not self.is_running,
            READY_S,
        )
        if len(self._ready_addresses()) <= starts:
            raise self._failure()
        self.address = self._ready_addresses()[-1]

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        return clean_environment() | kept

    def _ready_addresses(self) -> list[str]:
        return re.findall(r"^\S+ is ready at (\S+)$", self.log, flags=re.MULTILINE)

    def _failure(self) -> Exception:
        code = None if self._process is None else self._process.returncode
        if code == EX_UNAVAILABLE:
            return BrokerUnavailable(self.log.strip())
        return RuntimeError(f"{self.script} ended with {code}:\n{self.log[-3000:]}")

    def stop(self) -> None:
        """End the broker as an operator does, with SIGTERM; a stopped one stays stopped.

        Raises:
            TimeoutError: the broker did not end in time, and was killed.
        """
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the broker at once, with SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise TimeoutError(f"{self.script} did not end within {STOP_S:g} s") from None
        finally:
            self._process = None


class RealKafka(BrokerProcess):
    """A one-node Apache Kafka that keeps its messages and its log under a folder.

    Args:
        folder: its messages outlive a stop there.
        settings: of the broker, each as `key=value`.
        is_secure: whether it asks for passwords or certificates, and for permissions.
    """

    script = "start_kafka.sh"

    def __init__(
        self, folder: Path, settings: Sequence[str] = (), *, is_secure: bool = False
    ) -> None:
        options = [word for setting in settings for word in ("--set", setting)]
        options += ["--secure"] if is_secure else []
        super().__init__(folder / "kafka.log", "--data", str(folder / "kafka"), *options)

    @property
    def bootstrap(self) -> str:
        """The address for clients."""
        return self.address


class PubSubEmulator(BrokerProcess):
    """Google's emulator, its log in a folder; a stop loses all that was in it."""

    script = "start_pubsub.sh"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "pubsub.log")

    @property
    def host(self) -> str:
        """The value for PUBSUB_EMULATOR_HOST."""
        return self.address
