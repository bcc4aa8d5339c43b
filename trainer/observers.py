"""What a run tells about itself, and the face of whoever listens."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunStarted:
    """A run begins: `first_epoch` counts from 0 and is the one that comes next."""

    num_epochs: int
    first_epoch: int
    n_train: int
    n_test: int
    resumed: bool
    n_batches: int = 0


@dataclass(frozen=True)
class BatchReport:
    """One training step is done: `epoch` and `batch` count from 0, `step` all steps of the run."""

    epoch: int
    batch: int
    n_batches: int
    step: int
    loss: float
    images: int
    x: Tensor


@dataclass(frozen=True)
class TestOutputs:
    """What an evaluation made of the test images, a row an image.

    Attributes:
        probabilities: float32, `(n, n_classes)`.
        labels: int64, `(n,)`.
        indices: int64, `(n,)`, into the test split.
        class_names: One a column.
    """

    probabilities: Tensor
    labels: Tensor
    indices: Tensor
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class EpochReport:
    """An epoch is done: `epoch` says how many are; the test figures are of this epoch or absent.

    `test_outputs` is there after an evaluation with the built-in steps.
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
    """A checkpoint is on disk."""

    path: Path
    epoch: int
    is_best: bool
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class FitResult:
    """How a run ended.

    Attributes:
        status: "finished", or "stopped" when it was asked to stop (and saved before it did).
        epoch: How many epochs are done.
        num_epochs: How many were asked for.
        best: The best checkpoint so far.
        last: The newest checkpoint.
        metrics: Of the last evaluation, with `loss` among them.
    """

    status: Literal["finished", "stopped"]
    epoch: int
    num_epochs: int
    best: Path | None
    last: Path | None
    metrics: dict[str, float] = field(default_factory=dict)


class Observer:
    """Listens to a run; each method does nothing until it is overridden.

    The methods are called in the training's own thread: what takes long holds it up. An error in
    one ends the run.
    """

    def on_decoding(self, done: int, total: int) -> None:
        """Images are being decoded into their memory map, before the start: so many of a split's.

        Called several times a second; not at all when the map is there already.
        """

    def on_start(self, started: RunStarted) -> None:
        """The data is open and the first step comes next."""

    def on_batch(self, batch: BatchReport) -> None:
        """One training step is done."""

    def on_epoch(self, report: EpochReport) -> None:
        """One epoch is done, and evaluated where it was due."""

    def on_checkpoint(self, saved: CheckpointSaved) -> None:
        """A checkpoint is on disk."""

    def on_finish(self, result: FitResult) -> None:
        """The run ends, finished or stopped; it is not called when it fails."""

    def close(self) -> None:
        """The run is over in whatever way; let go of files and bars."""
