"""Digits, and two ways to run a command: in a process of its own, and in this one."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.cli import main
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
        said, told = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(tmp_path),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(told),
            pytest.raises(SystemExit) as ended,
        ):
            main([str(word) for word in words])
        code = ended.value.code
        return subprocess.CompletedProcess(words, int(code or 0), said.getvalue(), told.getvalue())

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
