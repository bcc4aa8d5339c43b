"""A data set that need not fit into memory."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np

SIDE = 100
DISTINCT = 400
MEGABYTE = 2**20


def write(folder: Path, n_images: int) -> None:
    """Fill a folder with grey images of 10 kB: hard links to a few hundred files."""
    folder.mkdir(parents=True)
    originals = []
    draws = np.random.default_rng(0)
    for number in range(DISTINCT):
        coarse = draws.integers(0, 256, (8, 8), dtype=np.uint8)
        originals.append(folder / f"original-{number}")
        originals[-1].write_bytes(
            cv2.imencode(".png", cv2.resize(coarse, (SIDE, SIDE)))[1].tobytes()
        )
    names = [f"{number:06d}.png" for number in range(n_images)]
    for name, original in zip(names, cycle(originals), strict=False):
        os.link(original, folder / name)
    labels = islice(cycle(range(10)), n_images)
    rows = [f"{name},{label}" for name, label in zip(names, labels, strict=True)]
    (folder / "info.csv").write_text("\n".join(["files,type", *rows]))


def peak_bytes(data: Path, logs: Path) -> int:
    """Train for an epoch, the map's building included, and return the highest resident size."""
    settings = {
        "net_arch": "[]", "num_epochs": 1, "eval_batch_size": 512, "device": "cpu",
        "image_height": SIDE, "image_width": SIDE,
    }  # fmt: skip
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    folders = ["--data", str(data), "--logdir", str(logs)]
    command = [sys.executable, "-m", "trainer", "train", *folders, *words]
    with (logs.parent / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (logs.parent / "output").read_text()
    return used.ru_maxrss * 1024


def test_a_gigabyte_of_images_takes_no_more_memory_than_a_few(tmp_path: Path) -> None:
    """100,000 files, 1 GB when decoded: the resident size grows by less than a tenth of that."""
    for name, n_images in (("small", 2_000), ("large", 100_000)):
        write(tmp_path / name / "train", n_images)
        write(tmp_path / name / "test", 500)
    small = peak_bytes(tmp_path / "small", tmp_path / "small-logs")
    large = peak_bytes(tmp_path / "large", tmp_path / "large-logs")
    map_file = next((tmp_path / "large/train/.darkroom").glob("*.u8"))
    assert map_file.stat().st_size == 100_000 * SIDE * SIDE
    assert large - small < 100 * MEGABYTE, (large // MEGABYTE, small // MEGABYTE)
