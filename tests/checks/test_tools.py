"""The tools are content: types hold, layers hold, the code is formatted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import ROOT

TOOLS = Path(sys.executable).parent


def run(tool: str, *words: str) -> None:
    """Run a tool in the project's folder; fail with what it says when it is not content."""
    command = [str(TOOLS / tool), *words]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240
    )
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}{result.stderr}"


def test_types_hold() -> None:
    """Mypy --strict finds nothing in the packages, the benchmarks and the scripts."""
    run("mypy")


def test_ruff_is_content() -> None:
    """The lint rules hold everywhere."""
    run("ruff", "check", "--no-cache", ".")


def test_the_formatter_has_nothing_to_do() -> None:
    """The code is formatted."""
    run("ruff", "format", "--no-cache", "--check", ".")


def test_layers_hold() -> None:
    """The trainer knows nothing of streams, and the worker uses only its public names."""
    run("lint-imports", "--no-cache")


@pytest.mark.parametrize("arguments", ["trainer worker", ". --ignore DEP002,DEP004"])
def test_imports_are_declared(arguments: str) -> None:
    """What the packages import is declared, and the other way round; so are the tests' imports."""
    run("deptry", *arguments.split())
