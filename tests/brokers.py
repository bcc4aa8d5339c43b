"""Brokers for the tests: the embedded Kafka, a real one, and Google's Pub/Sub emulator.

A real one is started by the script that users start it with. Where a machine cannot serve it, the
tests that need it are skipped with what to install.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from tests.worker_process import ROOT, clean_environment, dies_with_us, wait_until
from worker.testing import EmbeddedKafka

__all__ = [
    "BrokerProcess",
    "PubSubEmulator",
    "RealKafka",
    "embedded_kafka",
    "pubsub_emulator",
    "real_kafka",
]

EX_UNAVAILABLE = 69
READY_S = 120.0  # the first Kafka of a machine is fetched by Maven
STOP_S = 30.0


class BrokerProcess:
    """A broker run by one of the scripts; the address stays the same when it is started again."""

    script: str

    def __init__(self, log_file: Path, *options: str) -> None:
        self.log_file = log_file
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""
        """host:port, known from the first start on."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def start(self) -> None:
        """Start the broker and wait until it takes connections.

        Raises:
            pytest.skip.Exception: this machine lacks what it needs.
            RuntimeError: it does not start.
        """
        port = self.address.rpartition(":")[2] or "0"
        starts = len(self._ready_addresses())
        command = [*dies_with_us(), str(ROOT / "scripts" / self.script), "--port", port]
        with self.log_file.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, *self._options],
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
            self._explain_failure()
        self.address = self._ready_addresses()[-1]

    def _environment(self) -> dict[str, str]:
        kept = {key: os.environ[key] for key in ("KAFKA_HOME",) if key in os.environ}
        return clean_environment() | kept

    def _ready_addresses(self) -> list[str]:
        return re.findall(r"^\S+ is ready at (\S+)$", self.log, flags=re.MULTILINE)

    def _explain_failure(self) -> None:
        assert self._process is not None
        if self._process.returncode == EX_UNAVAILABLE:
            pytest.skip(self.log.strip())
        raise RuntimeError(
            f"{self.script} ended with {self._process.returncode}:\n{self.log[-3000:]}"
        )

    def stop(self) -> None:
        """End the broker as an operator does, with SIGTERM; a stopped one stays stopped."""
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
            raise AssertionError(f"{self.script} did not end within {STOP_S:g} s") from None
        finally:
            self._process = None


class RealKafka(BrokerProcess):
    """A one-node Apache Kafka whose messages outlive a stop."""

    script = "start_kafka.sh"

    def __init__(self, folder: Path, settings: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        options = [word for setting in settings for word in ("--set", setting)]
        super().__init__(folder / "kafka.log", "--data", str(folder / "kafka"), *options)

    @property
    def bootstrap(self) -> str:
        return self.address


class PubSubEmulator(BrokerProcess):
    """Google's emulator; a stop loses all that was in it."""

    script = "start_pubsub.sh"

    @property
    def host(self) -> str:
        """The value for PUBSUB_EMULATOR_HOST."""
        return self.address


@contextmanager
def real_kafka(folder: Path, settings: Sequence[str] = ()) -> Iterator[RealKafka]:
    """Run a real Kafka that keeps its messages and its log under `folder`."""
    with RealKafka(folder, settings) as kafka:
        yield kafka


@contextmanager
def pubsub_emulator(folder: Path) -> Iterator[PubSubEmulator]:
    """Run Google's Pub/Sub emulator, its log in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with PubSubEmulator(folder / "pubsub.log") as emulator:
        yield emulator


@contextmanager
def embedded_kafka() -> Iterator[EmbeddedKafka]:
    """Run the embedded Kafka in this process."""
    with EmbeddedKafka() as kafka:
        yield kafka
