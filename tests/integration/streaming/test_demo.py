"""The demos run as the README says, on a machine with Python only and without a screen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from tests.project import ROOT
from worker.testing.programs.processes import clean_environment

SCREEN = ("DISPLAY", "WAYLAND_DISPLAY")


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in clean_environment().items() if name not in SCREEN}
    return subprocess.run(
        [sys.executable, "-m", "worker.streaming.demo", *arguments],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.skipif(sys.platform in {"darwin", "win32"}, reason="there is always a screen here")
@pytest.mark.parametrize("broker", ["kafka", "pubsub"])
def test_what_is_sent_arrives_and_is_shown(tmp_path: Path, broker: str) -> None:
    """Every picture arrives; without a screen it says so and writes them to a file."""
    done = run(tmp_path, broker, "--count", "12")
    assert done.returncode == 0, done.stderr
    assert "arrived  12/12" in done.stdout
    assert "no screen to open a window on; the 12 pictures are in arrived.png" in done.stdout
    sheet = cv2.imread(str(tmp_path / "arrived.png"), cv2.IMREAD_GRAYSCALE)
    assert sheet is not None
    assert sheet.shape == (2 * 28 * 4, 10 * 28 * 4)
    assert sheet.max() > 200


def test_a_broker_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    """With a KAFKA_HOST where nothing listens, the demo ends with a remedy, not a traceback."""
    done = run(tmp_path, "kafka", KAFKA_HOST="127.0.0.1:1")
    assert done.returncode == 1
    assert "127.0.0.1:1 does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []  # noqa: PTH208
