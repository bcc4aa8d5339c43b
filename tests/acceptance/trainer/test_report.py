"""The report of a run in a real browser."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from trainer import fit
from worker.testing.digits import write_digits

CURVE = (0x1F, 0x77, 0xB4)


@pytest.fixture
def chromium() -> str:
    """Return the browser's command."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no browser: apt-get install chromium")
    return found


def browse(chromium: str, profile: Path, *options: str) -> str:
    """Run the browser without a window and without a network; return what it prints."""
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--proxy-server=127.0.0.1:9", f"--user-data-dir={profile}", *options,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_a_browser_shows_the_report_without_a_network(tmp_path: Path, chromium: str) -> None:
    """Curves, matrix and mistakes are drawn from the one file: no script and no other address."""
    write_digits(tmp_path / "data", 200, 100)
    params = {"net_arch": [], "num_epochs": 3, "eval_freq": 1, "device": "cpu"}
    fit(params, tmp_path / "data", tmp_path / "logs")
    page = (tmp_path / "logs" / "report.html").resolve().as_uri()

    dom = browse(chromium, tmp_path / "profile", "--dump-dom", page)
    picture = tmp_path / "page.png"
    browse(
        chromium, tmp_path / "profile", "--window-size=1050,1400", f"--screenshot={picture}", page
    )

    assert "Finished after epoch 3 of 3" in dom
    assert dom.count("<polyline") >= 10
    assert dom.count("<figure>") == 24
    assert "<script" not in dom
    assert "http" not in dom
    pixels = np.asarray(cv2.imread(str(picture)))[:, :, ::-1]
    assert (pixels == CURVE).all(2).sum() > 300
