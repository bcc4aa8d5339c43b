"""What holds for every test holds: no skip in CI, nothing left running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

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


XDIST_WORKER = "PYTEST_XDIST_WORKER"


def run(folder: Path, **environment: str) -> dict[str, str]:
    """Run the sample's tests under this project's conftest; return what pytest says of each."""
    sample = folder / "test_sample.py"
    sample.write_text(SAMPLE)
    arguments = ["-p", "tests.conftest", "-p", "no:cacheprovider", "--junitxml", "said.xml"]
    subprocess.run(
        [sys.executable, "-m", "pytest", "--rootdir", str(folder), *arguments, str(sample)],
        cwd=folder,
        env={key: text for key, text in os.environ.items() if key not in {"CI", XDIST_WORKER}}
        | {"PYTHONPATH": str(ROOT), "LEAK_GRACE_S": "0.2", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        | environment,
        capture_output=True,
        check=False,
        timeout=60,
    )
    cases = ElementTree.parse(folder / "said.xml").iter("testcase")
    return {
        case.attrib["name"]: "".join(
            f"{part.tag}: {part.attrib['message']}\n{part.text}" for part in case
        )
        for case in cases
    }


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is said of each test on a person's machine."""
    return run(tmp_path_factory.mktemp("sample"))


def test_skip_is_named(said: dict[str, str]) -> None:
    """On a person's machine a skip is a skip, with its reason."""
    assert said["test_skips"].startswith("skipped: no Java")


def test_skip_fails_in_ci(tmp_path: Path) -> None:
    """With CI=true a skip is a failure that names the reason."""
    text = run(tmp_path, CI="true")["test_skips"]

    assert text.startswith("failure")
    assert "CI=true allows no skip, and this was one: Skipped: no Java" in text


@pytest.mark.parametrize(
    ("test", "named"),
    [("thread", "thread 'sleeper'"), ("process", "(sleep 8)"), ("socket", "LISTEN")],
)
def test_what_is_left_running_is_named(said: dict[str, str], test: str, named: str) -> None:
    """A test that leaves something running fails, and what it left is named."""
    text = said[f"test_leaves_a_{test}"]

    assert "left running by this test" in text
    assert named in text


def test_tidy_test_passes(said: dict[str, str]) -> None:
    """A test that leaves nothing is left alone."""
    assert said["test_leaves_nothing"] == ""
