"""Whether bfloat16 learns as well as float32: test accuracy over several seeds."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import Benchmark
from benchmarks.settings import setting
from trainer import EpochReport, Observer, fit

SEEDS, FIRST_SEED = 3, 17
PRECISIONS = ("float32", "bfloat16")
POINTS_TARGET = 0.5


@dataclass(frozen=True)
class Lesson:
    """The data of a training, and its length.

    Attributes:
        name: Of the images.
        datadir: Where they are.
        batch_size: Of the training.
        epochs: So many.
        last: A run's accuracy is the mean of so many last evaluations: of few test images a single
            evaluation says little.
    """

    name: str
    datadir: Path
    batch_size: int
    epochs: int
    last: int


class Accuracies(Observer):
    """Remembers the test accuracy of each epoch, in per cent."""

    def __init__(self) -> None:
        self.of_epochs: list[float] = []

    def on_epoch(self, report: EpochReport) -> None:
        self.of_epochs.append(100 * report.test_metrics["accuracy"])


def measure_accuracy(bench: Benchmark, lesson: Lesson, folder: Path) -> None:
    """Train with each seed in both precisions; compare bfloat16 with float32."""
    means = {}
    for precision in PRECISIONS:
        accuracies = [
            accuracy(lesson, precision, seed, folder / f"{lesson.name}-{precision}-{seed}")
            for seed in range(FIRST_SEED, FIRST_SEED + setting("SEEDS", SEEDS))
        ]
        bench.row(f"{lesson.name}, accuracy by {precision}", "%", accuracies)
        means[precision] = statistics.mean(accuracies)
    behind = means["float32"] - means["bfloat16"]
    name = f"{lesson.name}: points that bfloat16 is behind, mean of seeds"
    bench.ratio(name, behind, POINTS_TARGET, at_most=True)


def accuracy(lesson: Lesson, precision: str, seed: int, logdir: Path) -> float:
    """Train once; return the test accuracy of the last epochs in per cent."""
    heard = Accuracies()
    params = {
        "device": "cpu",
        "precision": precision,
        "manual_seed": seed,
        "batch_size": lesson.batch_size,
        "eval_batch_size": 512,
        "num_epochs": lesson.epochs,
        "eval_freq": 1,
        "save_freq": lesson.epochs,
        "flip_images": False,
    }
    fit(params, lesson.datadir, logdir, observers=[heard])
    return statistics.mean(heard.of_epochs[-lesson.last :])
