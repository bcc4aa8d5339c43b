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
class Started:
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
class Tested:
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

    `tested` is there after an evaluation with the built-in steps.
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
    tested: Tested | None = None


@dataclass(frozen=True)
class Saved:
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

    def on_start(self, started: Started) -> None:
        """The data is open and the first step comes next."""

    def on_batch(self, batch: BatchReport) -> None:
        """One training step is done."""

    def on_epoch(self, report: EpochReport) -> None:
        """One epoch is done, and evaluated where it was due."""

    def on_checkpoint(self, saved: Saved) -> None:
        """A checkpoint is on disk."""

    def on_finish(self, result: FitResult) -> None:
        """The run ends, finished or stopped; it is not called when it fails."""

    def close(self) -> None:
        """The run is over in whatever way; let go of files and bars."""


class Dispensable(Observer):
    """Lets a run go on without an observer that cannot write its files (a full disk, say).

    Args:
        observer: Told of everything until its first `OSError`, which is logged as an error; it is
            closed then.
        name: What it writes, for the log.
    """

    def __init__(self, observer: Observer, name: str) -> None:
        self._observer: Observer | None = observer
        self._name = name

    def on_decoding(self, done: int, total: int) -> None:
        """Pass it on."""
        self._tell("on_decoding", done, total)

    def on_start(self, started: Started) -> None:
        """Pass it on."""
        self._tell("on_start", started)

    def on_batch(self, batch: BatchReport) -> None:
        """Pass it on."""
        self._tell("on_batch", batch)

    def on_epoch(self, report: EpochReport) -> None:
        """Pass it on."""
        self._tell("on_epoch", report)

    def on_checkpoint(self, saved: Saved) -> None:
        """Pass it on."""
        self._tell("on_checkpoint", saved)

    def on_finish(self, result: FitResult) -> None:
        """Pass it on."""
        self._tell("on_finish", result)

    def close(self) -> None:
        """Pass it on."""
        self._tell("close")

    def _tell(self, method: str, *told: object) -> None:
        observer = self._observer
        if observer is None:
            return
        try:
            getattr(observer, method)(*told)
        except OSError as error:
            self._observer = None
            logger.error("%s: not written any more, the training goes on: %s", self._name, error)  # noqa: TRY400 - the run goes on
            if method != "close":
                self._close(observer)

    def _close(self, observer: Observer) -> None:
        """Let it let go of its files and threads; it may stumble over the same disk again."""
        try:
            observer.close()
        except Exception as error:
            logger.warning("%s: not closed: %s", self._name, error)
