"""The project itself: its files, its dependencies, and nothing that points at one machine."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

from tests.project import ROOT

CHECKOUT = (ROOT / ".git").exists()


def run(*command: str) -> str:
    """Run a tool in the project's folder; return what it says, failing when it is not content."""
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240
    )
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}{result.stderr}"
    return result.stdout


def tracked(pattern: str = "*") -> list[Path]:
    """Return the files under version control; of a copy without it, all that are not hidden."""
    if CHECKOUT:
        names = run("git", "ls-files", "-z", "--", pattern).split("\0")
        return [ROOT / name for name in names if name and (ROOT / name).is_file()]
    return [path for path in ROOT.glob(f"**/{pattern}") if path.is_file()]


@pytest.mark.parametrize("package", ["trainer", "worker"])
def test_packages_are_typed(package: str) -> None:
    """Both packages tell type checkers that they are typed."""
    assert (ROOT / package / "py.typed").exists()


def test_nothing_names_a_place_on_one_machine() -> None:
    """No tracked file holds an absolute path of somebody's machine."""
    machine = re.compile(r"(?<![\w.:])/(work|root|home/\w+|Users/\w+|tmp/venv)/")
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in tracked()
        if path != Path(__file__) and path.suffix not in {".png", ".gif"}
        for match in machine.finditer(path.read_text("utf-8", "replace"))
    ]

    assert found == []


def test_files_stay_small() -> None:
    """A file of the program is one noun of at most 300 lines."""
    long = {
        str(path.relative_to(ROOT)): n_lines
        for path in tracked("*.py")
        if path.relative_to(ROOT).parts[0] != "tests"
        and (n_lines := len(path.read_text("utf-8").splitlines())) > 300
    }

    assert long == {}


def test_every_dependency_is_pinned() -> None:
    """constraints.txt names a version of everything that pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = chain(project["dependencies"], *project["optional-dependencies"].values())
    names = {re.split(r"[\[<>=; ]", line)[0].lower() for line in asked} - {"darkroom"}
    constraints = (ROOT / "constraints.txt").read_text().lower().splitlines()
    pinned = {line.partition("==")[0].replace("_", "-") for line in constraints}

    assert names - pinned == set()


def test_importing_the_trainer_is_light() -> None:
    """`import trainer` and `import worker` load neither torch nor Faust."""
    heavy = run(
        sys.executable,
        "-c",
        "import sys, trainer, worker; print({'torch', 'faust', 'torchvision'} & set(sys.modules))",
    )

    assert heavy.strip() == "set()"
