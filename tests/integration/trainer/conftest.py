"""Digits, and a way to run programs as users do: in their own processes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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
def trainer(tmp_path: Path, environment: dict[str, str]) -> Run:
    """Run `python -m trainer ...` in `tmp_path`."""

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
