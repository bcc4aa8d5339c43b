"""The time from the start of a training to its first step, and of decoding the images."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.bench import Benchmark
from benchmarks.settings import setting
from trainer import Params
from trainer.data.splits import open_split

ROOT = Path(__file__).parents[1]
ROUNDS = 5
START_TARGET_S, MAP_TARGET_S = 4.0, 2.0
FIRST_STEP = b"epoch 1/"
"""Text of the progress bar after the first step."""


def measure_start(bench: Benchmark, datadir: Path, folder: Path) -> None:
    """Measure `python -m trainer train` up to its first step; the images are decoded already."""
    open_split(Params(), "train", datadir)
    open_split(Params(), "test", datadir)
    train = ["-m", "trainer", "train", "--data", str(datadir), "--logdir"]
    seconds, imports = [], []
    for number in range(setting("ROUNDS", ROUNDS) + 1):
        seconds.append(seconds_to_first_step([*train, str(folder / f"start-{number}")]))
        imports.append(seconds_of(["-c", "import torch"]))
    start = bench.row("start to the first step", "s", seconds[1:])  # the first one warms the disk
    bench.row("import torch, alone", "s", imports[1:])
    bench.ratio("seconds to the first step", start.median, START_TARGET_S, at_most=True)


def measure_map(bench: Benchmark, datadir: Path) -> None:
    """Measure how long decoding the training images into their memory map takes."""
    seconds = []
    for _ in range(setting("ROUNDS", ROUNDS)):
        shutil.rmtree(datadir / "train" / ".darkroom", ignore_errors=True)
        began = time.perf_counter()
        split = open_split(Params(), "train", datadir)
        seconds.append(time.perf_counter() - began)
    built = bench.row(f"memory map of {len(split):,} PNG files", "s", seconds)
    bench.ratio("seconds of building the map", built.median, MAP_TARGET_S, at_most=True)


def seconds_to_first_step(arguments: list[str]) -> float:
    """Start Python and wait until the progress bar has its first step.

    Raises:
        RuntimeError: It ended before.
    """
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        said = b""
        try:
            while FIRST_STEP not in said:
                more = os.read(process.stderr.fileno(), 4096)
                if not more:
                    raise RuntimeError(f"the training has ended: {said.decode()}")
                said += more
            return time.perf_counter() - began
        finally:
            process.kill()


def seconds_of(arguments: list[str]) -> float:
    """Run Python and return how many seconds it takes."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True)
    return time.perf_counter() - began
