"""Every command and snippet of the README, run as it stands in a copy of the project."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.documents import README
from tests.project import ROOT
from worker.testing.programs.brokers import RealKafka
from worker.testing.programs.processes import clean_environment
from worker.testing.programs.waiting import wait_until

KAFKA = "localhost:9092"  # the address in the README; here it is a free port
TRACKED = ("README.md", "Procfile", "pyproject.toml", "constraints.txt")
FOLDERS = ("scripts", "trainer", "worker", "tests")
RUN_HERE = {
    "demo": README.block("bash", "scripts/demo"),
    "kafka": README.block("bash", "start_kafka"),
    "worker": README.block("bash", "faust -A worker"),
    "send": README.block("python", "Producer"),
    "read": README.block("python", "Consumer"),
    "train": README.block("bash", "trainer train"),
    "train from Python": README.block("python", "from trainer import"),
    "embedded Kafka": README.block("python", "EmbeddedKafka"),
}
"""Every command and snippet of the README; each has its place in a test below."""


@dataclass(frozen=True)
class Copy:
    """A copy of the project whose `.venv` is the one that the tests run in."""

    folder: Path
    kafka: str

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return clean_environment() | {
            "DARKROOM_PYTHON": sys.executable,
            "OMP_NUM_THREADS": "1",  # two threads that wait for one another crawl on a busy machine
            "PATH": path,
            "PYTHONPATH": str(self.folder),
        }

    def run(self, language: str, text: str, timeout_s: float = 280.0) -> str:
        """Run a block to its end, and return what it prints."""
        program = [sys.executable, "-c"] if language == "python" else ["/bin/bash", "-ec"]
        result = subprocess.run(
            [*program, text.replace(KAFKA, self.kafka)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert result.returncode == 0, f"{text}\n{result.stdout}{result.stderr}"
        return result.stdout

    @contextmanager
    def running(self, text: str, ready: str) -> Iterator[None]:
        """Run a block that goes on until it is stopped; wait for a line in its output."""
        log = self.folder / "running.log"
        environment = {k: v for k, v in self.environment.items() if not k.startswith("DARKROOM")}
        with log.open("wb") as output:
            shell = subprocess.Popen(
                ["/bin/bash", "-ec", text.replace(KAFKA, self.kafka)],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        try:
            wait_until(f"{ready} in {log}", lambda: ready in log.read_text("utf-8"), 120.0)
            yield
        finally:
            started = psutil.Process(shell.pid)  # the worker itself, or a shell that waits for it
            processes = [started, *started.children(recursive=True)]
            next(each for each in processes if each.name() != "bash").send_signal(signal.SIGTERM)
            try:
                shell.wait(30.0)
            finally:
                end_group(shell.pid)
                shell.wait()


def end_group(group: int) -> None:
    """Kill what is left of a process group."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, kafka_host: str) -> Copy:
    folder = tmp_path_factory.mktemp("copy")
    for name in TRACKED:
        shutil.copy(ROOT / name, folder)
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / ".venv").symlink_to(sys.prefix)
    return Copy(folder, kafka_host)


def test_the_demo_shows_the_main_job(copy: Copy) -> None:
    """`scripts/demo` ends with 0, says what it measured, and leaves nothing running."""
    demo, test = RUN_HERE["demo"].splitlines()
    output = copy.run("bash", f"{demo} --json")
    copy.run("bash", f"{test} --collect-only -q tests/unit/test_project.py")  # not itself again

    result = json.loads(output.splitlines()[-1])
    assert result["images_sent"] == result["predictions"] + 1
    assert result["dead_letters"] == 1
    assert result["accuracy"] >= 0.95
    assert result["images_per_s"] > 0
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"]
    assert result["epochs"] > 1
    assert result["seconds"] > 0
    assert "What to try next" in output


def test_quick_start_on_a_real_kafka(copy: Copy) -> None:
    """Images, a worker, the command to train, and three predictions."""
    assert RUN_HERE["kafka"] == f"scripts/{RealKafka.script}\n"  # which runs here already

    with copy.running(RUN_HERE["worker"], ready="[^Worker]: Ready"):
        copy.run("python", RUN_HERE["send"])
        output = copy.run("python", RUN_HERE["read"])

    lines = [json.loads(line) for line in output.splitlines()]
    assert sum("confidence" in line for line in lines) == 3
    assert "finished" in [line.get("event") for line in lines]


def test_training_alone(copy: Copy) -> None:
    """The trainer's commands, and the same from Python, on the quick start's images."""
    if not (copy.folder / "data").exists():
        copy.run("bash", "python scripts/digits.py idx && python -m trainer unpack idx data")

    output = copy.run("bash", RUN_HERE["train"])
    assert "000000.png" in output
    assert "finished" in copy.run("python", RUN_HERE["train from Python"])


def test_embedded_kafka(copy: Copy) -> None:
    """The Kafka inside gives its address."""
    assert "127.0.0.1:" in copy.run("python", RUN_HERE["embedded Kafka"])


def test_every_block_is_run() -> None:
    """No command or snippet of the README is left out; unit tests read the JSON."""
    commands = {each.text for each in README.blocks if each.language not in {"json", "text"}}

    assert commands == set(RUN_HERE.values())
