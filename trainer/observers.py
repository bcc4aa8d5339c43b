"""The reports of a run, and the interface of the observers that get them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BatchReport",
    "CheckpointSaved",
    "EpochReport",
    "FitResult",
    "Observer",
    "RunStarted",
    "TestOutputs",
]


@dataclass(frozen=True)
class RunStarted:
    """A run begins.

    Attributes:
        num_epochs: Number of epochs of the whole run.
        first_epoch: Number of the epoch that comes next, from 0 on.
        n_train: Number of training images.
        n_test: Number of test images.
        resumed: Whether the run goes on from a checkpoint.
        n_batches: Number of batches per epoch.
    """

    num_epochs: int
    first_epoch: int
    n_train: int
    n_test: int
    resumed: bool
    n_batches: int = 0


@dataclass(frozen=True)
class BatchReport:
    """A training step is done.

    Attributes:
        epoch: Number of the epoch, from 0 on.
        batch: Number of the batch in the epoch, from 0 on.
        n_batches: Number of batches per epoch.
        step: Number of steps of the whole run that are done.
        loss: The loss that the step returned.
        images: Number of images in the batch.
        x: The images as the net gets them, float32 `(images, c, h, w)`.
    """

    epoch: int
    batch: int
    n_batches: int
    step: int
    loss: float
    images: int
    x: Tensor


@dataclass(frozen=True)
class TestOutputs:
    """The probabilities that an evaluation gave to each test image.

    Attributes:
        probabilities: float32, `(n, n_classes)`, one row per image.
        labels: The images' labels, int64, `(n,)`.
        indices: The images' indices in the test split, int64, `(n,)`.
        class_names: One name per class.
    """

    probabilities: Tensor
    labels: Tensor
    indices: Tensor
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class EpochReport:
    """An epoch is done.

    Attributes:
        epoch: Number of epochs that are done.
        num_epochs: Number of epochs of the whole run.
        train_loss: Mean loss of the epoch's steps.
        train_metrics: Metrics of the epoch's steps, by name.
        test_loss: Loss of the evaluation; None if the epoch was not evaluated.
        test_metrics: Metrics of the evaluation, by name; empty if the epoch was not evaluated.
        learning_rate: Learning rate at the end of the epoch.
        images_per_s: Training images per second, without the evaluation.
        seconds: Duration of the epoch, with the evaluation.
        test_outputs: The probabilities of the test images, after an evaluation with the built-in
            steps.
    """

    epoch: int
    num_epochs: int
    train_loss: float
    train_metrics: Mapping[str, float]
    test_loss: float | None
    test_metrics: Mapping[str, float]
    learning_rate: float
    images_per_s: float
    seconds: float
    test_outputs: TestOutputs | None = None


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint is on disk.

    Attributes:
        path: Its file.
        epoch: Number of epochs that are done.
        is_best: Whether it is the best so far.
        metrics: Loss and metrics of the last evaluation before it, by name.
    """

    path: Path
    epoch: int
    is_best: bool
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class FitResult:
    """The result of a run.

    Attributes:
        status: "finished", or "stopped" if it was asked to stop (and saved a checkpoint).
        epoch: Number of epochs that are done.
        num_epochs: Number of epochs of the whole run.
        best: The best checkpoint so far.
        last: The newest checkpoint.
        metrics: Loss and metrics of the last evaluation, by name.
    """

    status: Literal["finished", "stopped"]
    epoch: int
    num_epochs: int
    best: Path | None
    last: Path | None
    metrics: dict[str, float] = field(default_factory=dict)


class Observer:
    """Gets the reports of a run; each method does nothing until it is overridden.

    The methods are called in the thread of the training, which waits for them. An error in a method
    ends the run.
    """

    def on_decoding(self, done: int, total: int) -> None:
        """Images are being decoded into their memory map, before the start of the run.

        This is called several times per second; not at all if the map exists already.

        Args:
            done: Number of images of the split that are decoded.
            total: Number of images of the split.
        """

    def on_start(self, started: RunStarted) -> None:
        """The data is open, and the first step comes next."""

    def on_batch(self, batch: BatchReport) -> None:
        """A training step is done."""

    def on_epoch(self, report: EpochReport) -> None:
        """An epoch is done, and evaluated if `eval_freq` says so."""

    def on_checkpoint(self, saved: CheckpointSaved) -> None:
        """A checkpoint is on disk."""

    def on_finish(self, result: FitResult) -> None:
        """The run ends, finished or stopped; this is not called when it fails."""

    def close(self) -> None:
        """The run is over, also after an error: close files and progress bars."""
