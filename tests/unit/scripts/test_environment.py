"""scripts/environment.sh: what it checks, what it makes, and when it does nothing."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.unit.scripts.machine import Machine, finished


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


def test_uv_installs(machine: Machine) -> None:
    """Where the package index has uv, uv installs and pip does not."""
    machine.python("python3.11", "3 11 7")
    machine.uv()

    result = machine.run()

    assert result.returncode == 0, result.stderr
    assert f"--editable {machine.clone}[test]" in machine.calls[0]
    assert f"--constraint {machine.clone}/constraints.txt" in machine.calls[0]
    assert [call.split()[0] for call in machine.calls] == ["uv", "index", "import", "import"]
    assert "[  0 s] torch 528.9MiB" in result.stderr.replace("(", "").replace(")", "")
    assert "tqdm" not in result.stderr


def test_pip_installs_what_uv_cannot(machine: Machine) -> None:
    """When uv fails, pip installs, and the message says where uv's reason is."""
    machine.python("python3.11", "3 11 7")
    machine.uv("echo 'error: no such index'; exit 2")

    result = machine.run()

    assert result.returncode == 0, result.stderr
    assert "uv could not do it" in result.stderr
    assert "no such index" in (machine.venv / "install.log").read_text()
    assert [call.split()[0] for call in machine.calls[2:]] == ["pip", "import", "import"]


def test_what_is_used_is_compiled_once(machine: Machine) -> None:
    """Pip compiles nothing; the modules that are used are compiled, whatever the shell has set."""
    machine.python("python3.11", "3 11 7")
    machine.run(PYTHONDONTWRITEBYTECODE="1")

    assert "--no-compile" in machine.calls[0]
    assert machine.calls[1:] == ["import ", "import "]


@pytest.mark.parametrize("has_uv", [True, False])
def test_index_for_torch_is_passed_on(machine: Machine, has_uv: bool) -> None:
    """DARKROOM_TORCH_INDEX is where torch and torchvision come from, and nothing else."""
    machine.python("python3.11", "3 11 7")
    if has_uv:
        machine.uv()

    result = machine.run(DARKROOM_TORCH_INDEX="https://example.org/cpu")
    installs = [call for call in machine.calls if call.startswith(("uv", "pip"))]

    assert installs[0].endswith("--no-deps --index-url https://example.org/cpu torch torchvision")
    assert installs[1].endswith(f"--editable {machine.clone}[test]")
    assert "example.org" not in installs[1]
    assert "CUDA" not in result.stderr


def test_indexes_that_pip_is_configured_for_hold_for_uv(machine: Machine) -> None:
    """Uv gets the index and the extra indexes of pip's configuration, which it does not read."""
    machine.python("python3.11", "3 11 7")
    machine.uv()
    (machine.folder / "pip.conf").write_text(
        "global.index-url='https://example.org/simple?a=b'\n"
        ":env:.extra-index-url='https://example.org/one\\nhttps://example.org/two'\n"
    )

    machine.run()

    wanted = "https://example.org/simple?a=b https://example.org/one https://example.org/two"
    assert machine.calls[1] == f"index {wanted}"


def test_cost_of_cuda_is_told_where_there_is_no_gpu(machine: Machine) -> None:
    """Without an NVIDIA GPU the message says what CUDA costs and how to install without it."""
    machine.python("python3.11", "3 11 7")

    result = machine.run()

    assert "2.5 GB to download" in result.stderr
    assert "DARKROOM_TORCH_INDEX=ADDRESS a clone/scripts/test" in result.stderr


@pytest.mark.parametrize(("program", "text"), [("nvidia-smi", ""), ("uname", "echo Darwin")])
def test_cost_of_cuda_is_not_told_elsewhere(machine: Machine, program: str, text: str) -> None:
    """With a GPU, and on macOS, nothing is said of CUDA."""
    machine.python("python3.11", "3 11 7")
    machine.program(program, f"#!/bin/bash\n{text}\n")

    assert "CUDA" not in machine.run().stderr


def test_python_that_is_too_old_is_named(machine: Machine) -> None:
    """Without Python 3.11 the message names once what was found, and how to install a newer one."""
    machine.python("python3", "3 10 12")

    result = machine.run()

    assert result.returncode == 1
    assert "(found: python3 is 3.10.12)" in result.stderr
    assert "Ubuntu 22.04:                      sudo apt install python3.11" in result.stderr
    assert not machine.venv.exists()


def test_missing_python_is_told(machine: Machine) -> None:
    """Without any Python the message says that, and how to install one."""
    result = machine.run()

    assert result.returncode == 1
    assert "(found: no Python at all)" in result.stderr
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


def test_interrupt_ends_it_at_once(machine: Machine) -> None:
    """Ctrl-C while uv works ends the script: pip is not tried, and the next run starts afresh."""
    machine.python("python3.11", "3 11 7")
    machine.uv("trap 'exit 2' INT; touch begun; sleep 30")
    process = machine.start()
    machine.wait_for(machine.folder / "begun")

    os.killpg(process.pid, signal.SIGINT)
    result = finished(process)

    assert result.returncode == 130
    assert "Interrupted" in result.stderr
    assert not [call for call in machine.calls if call.startswith("pip")]
    machine.uv()
    assert "starting afresh" in machine.run().stderr


def test_second_script_waits_for_the_first(machine: Machine) -> None:
    """Of two scripts that are started at once, one installs and the other waits for it."""
    machine.python("python3.11", "3 11 7")
    machine.uv("touch begun; until [ -e go ]; do sleep 0.02; done")
    first = machine.start()
    machine.wait_for(machine.folder / "begun")
    second = machine.start()
    assert second.stderr is not None
    assert "waiting for it" in second.stderr.readline()

    (machine.folder / "go").touch()

    assert [finished(each).returncode for each in (first, second)] == [0, 0]
    assert len([call for call in machine.calls if call.startswith("uv")]) == 1


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
