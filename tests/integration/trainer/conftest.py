"""Digits, and two ways to run a command: in a process of its own, and in this one."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trainer_here import run_here
from worker.testing.digits import write_digits

ROOT = Path(__file__).parent.parent.parent.parent
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    datadir = tmp_path_factory.mktemp("digits") / "data"
    write_digits(datadir, 600, 100)
    return datadir


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}


@pytest.fixture
def trainer(tmp_path: Path) -> Run:
    """Run `python -m trainer ...` in `tmp_path`, in this process, which has imported everything."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return run_here(tmp_path, words)

    return run


@pytest.fixture
def program(tmp_path: Path, environment: dict[str, str]) -> Run:
    """Run `python -m trainer ...` in `tmp_path`, in a process of its own."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "trainer", *map(str, words)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
