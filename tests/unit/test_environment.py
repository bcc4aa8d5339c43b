"""scripts/environment.sh: what it checks, what it makes, and when it does nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

# Stands for an interpreter: it has a version, makes a folder with itself in it, and "installs".
FAKE_PYTHON = """#!/bin/bash
case "$*" in
*version_info*) echo {version} ;;
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pip "*) echo "  Downloading torch-2.0-cp311-none-any.whl (554.6 MB)"; {pip} ;;
esac
"""
FAKE_DF = """#!/bin/bash
echo "Filesystem 1024-blocks Used Available Capacity Mounted"
echo "/dev/fake 99 99 {free_kb} 1% /"
"""


class Machine:
    """A clone of the project on a machine with the interpreters and the disk of our choice."""

    def __init__(self, folder: Path) -> None:
        self.clone = folder / "a clone"
        self.bin = folder / "bin"
        (self.clone / "scripts").mkdir(parents=True)
        self.bin.mkdir()
        shutil.copy(SCRIPTS / "environment.sh", self.clone / "scripts")
        (self.clone / "pyproject.toml").write_text("[project]\n")
        (self.clone / "constraints.txt").write_text("torch==2.0\n")
        (self.clone / "scripts" / "test").write_text(
            '. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"\nuse_environment "$1"\n'
            'echo "runs with $python"\n'
        )
        self.df(free_gb=100)
        for name in ("python3.13", "python3.12", "python3.11", "python3", "python"):
            self.program(name, "#!/bin/bash\nexit 127\n")  # as pyenv's shims do

    def program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def python(self, name: str, version: str, pip: str = "true") -> None:
        self.program(name, FAKE_PYTHON.format(version=version, pip=pip))

    def df(self, free_gb: int) -> None:
        self.program("df", FAKE_DF.format(free_kb=free_gb * 1024 * 1024))

    def run(self, extra: str = "test") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/bash", "a clone/scripts/test", extra],
            check=False,
            cwd=self.clone.parent,
            env={"PATH": f"{self.bin}:{os.environ['PATH']}", "TMPDIR": str(self.clone)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
        )

    @property
    def venv(self) -> Path:
        return self.clone / ".venv"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_newest_tested_python_that_runs_is_taken(machine: Machine) -> None:
    """Of several interpreters the newest tested one that runs makes the environment."""
    machine.python("python3.12", "3 12 1")
    machine.python("python3.11", "3 11 7")

    result = machine.run()

    assert result.returncode == 0, result.stderr
    assert "Python 3.12.1" in result.stderr
    assert f"runs with {machine.venv}/bin/python" in result.stdout


def test_installing_shows_what_is_being_downloaded(machine: Machine) -> None:
    """While it installs one sees the big packages and the time."""
    machine.python("python3.11", "3 11 7")

    assert "[  0 s] torch-2.0 (554.6 MB)" in machine.run().stderr


def test_python_that_is_too_old_is_named(machine: Machine) -> None:
    """Without Python 3.11 the message names what was found and what to install."""
    machine.python("python3", "3 9 18")

    result = machine.run()

    assert result.returncode == 1
    assert "python3 is 3.9.18" in result.stderr
    assert "Install Python 3.13" in result.stderr
    assert not machine.venv.exists()


def test_full_disk_is_told_before_anything_is_made(machine: Machine) -> None:
    """Too little disk space ends the script at once, with the space there is and that it needs."""
    machine.python("python3.11", "3 11 7")
    machine.df(free_gb=5)

    result = machine.run()

    assert result.returncode == 1
    assert "5 GB are free" in result.stderr
    assert "needs about 9 GB" in result.stderr
    assert not machine.venv.exists()


def test_second_time_is_quiet(machine: Machine) -> None:
    """What is installed is not installed again, and nothing is said about it."""
    machine.python("python3.11", "3 11 7")
    machine.run()

    assert machine.run().stderr == ""


def test_changed_requirements_are_installed(machine: Machine) -> None:
    """A change of the requirements brings the environment up to date without making it anew."""
    machine.python("python3.11", "3 11 7")
    machine.run()
    (machine.clone / "constraints.txt").write_text("torch==2.1\n")

    result = machine.run()

    assert "Installing" in result.stderr
    assert "Making" not in result.stderr
    assert machine.run().stderr == ""


def test_another_extra_is_added(machine: Machine) -> None:
    """Demo after test adds what the demo needs; both are then known to be there."""
    machine.python("python3.11", "3 11 7")
    machine.run("test")

    assert 'what "demo" needs' in machine.run("demo").stderr
    assert machine.run("test").stderr == ""
    assert machine.run("demo").stderr == ""


def test_interrupted_installation_is_done_again(machine: Machine) -> None:
    """An installation that was killed is noticed and started afresh."""
    machine.python("python3.11", "3 11 7", pip="kill -9 $PPID $$")
    assert machine.run().returncode != 0
    machine.python("python3.11", "3 11 7")

    result = machine.run()

    assert result.returncode == 0, result.stderr
    assert "was interrupted" in result.stderr
    assert machine.run().stderr == ""


def test_failed_installation_shows_why(machine: Machine) -> None:
    """When pip fails its last lines are shown, and the next run tries again."""
    machine.python("python3.11", "3 11 7", pip="echo 'ERROR: no network'; exit 1")

    result = machine.run()

    assert result.returncode == 1
    assert "no network" in result.stderr
    assert machine.run().returncode == 1


def test_environment_of_ones_own_is_used_as_it_is(machine: Machine) -> None:
    """DARKROOM_PYTHON names an interpreter; nothing is installed then."""
    machine.python("mine", "3 11 7")
    program = (
        f'DARKROOM_PYTHON="{machine.bin}/mine" . "{machine.clone}/scripts/environment.sh"\n'
        f'DARKROOM_PYTHON="{machine.bin}/mine" use_environment test; echo "$python"'
    )

    output = subprocess.run(
        ["/bin/bash", "-c", program], capture_output=True, text=True, check=True, timeout=30
    )

    assert output.stdout.strip() == f"{machine.bin}/mine"
    assert not machine.venv.exists()
