"""What holds for every test holds: no skip in CI, nothing left running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import ROOT

SAMPLE = """
import subprocess, socket, threading, time
import pytest

def test_skips():
    pytest.skip("no Java")

def test_leaves_a_thread():
    threading.Thread(target=time.sleep, args=(60,), daemon=True, name="sleeper").start()

def test_leaves_a_process():
    subprocess.Popen(["sleep", "8"])

def test_leaves_a_socket():
    global server
    server = socket.create_server(("127.0.0.1", 0))

def test_leaves_nothing():
    pass
"""


def run(tmp_path: Path, test: str, **environment: str) -> str:
    """Run one of the sample's tests under this project's conftest, and return what pytest says."""
    sample = tmp_path / "test_sample.py"
    sample.write_text(SAMPLE)
    arguments = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-rs", "-k", test, str(sample)]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--rootdir", str(tmp_path), *arguments],
        cwd=tmp_path,
        env={key: text for key, text in os.environ.items() if key != "CI"}
        | {"PYTHONPATH": str(ROOT), "LEAK_GRACE_S": "0.2", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    ).stdout


def test_skip_is_named(tmp_path: Path) -> None:
    """On a person's machine a skip is a skip, with its reason."""
    output = run(tmp_path, "skips")

    assert "1 skipped" in output
    assert "no Java" in output


def test_skip_fails_in_ci(tmp_path: Path) -> None:
    """With CI=true a skip is a failure that names the reason."""
    output = run(tmp_path, "skips", CI="true")

    assert "1 failed" in output
    assert "CI=true allows no skip, and this was one: Skipped: no Java" in output


@pytest.mark.parametrize(
    ("test", "named"),
    [("thread", "thread 'sleeper'"), ("process", "(sleep 8)"), ("socket", "LISTEN")],
)
def test_what_is_left_running_is_named(tmp_path: Path, test: str, named: str) -> None:
    """A test that leaves something running fails, and what it left is named."""
    output = run(tmp_path, f"leaves_a_{test}")

    assert "left running by this test" in output
    assert named in output


def test_tidy_test_passes(tmp_path: Path) -> None:
    """A test that leaves nothing is left alone."""
    assert "1 passed" in run(tmp_path, "leaves_nothing")
