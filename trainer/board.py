"""What TensorBoard shows of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from trainer.observers import BatchReport, EpochReport, Observer, Started

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SHOWN_IMAGES = 32
EVERY_STEPS = 10


class Board(Observer):
    """Writes event files: loss, metrics, learning rate, throughput, images as the net sees them."""

    def __init__(self, logdir: Path, class_names: Sequence[str]) -> None:
        self._logdir = logdir
        self._class_names = class_names
        self._shown = False
        self._writer: SummaryWriter | None = None

    def on_start(self, started: Started) -> None:  # noqa: ARG002 - the face of an observer
        """Open the event file."""
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - import takes a while

        self._logdir.mkdir(parents=True, exist_ok=True)
        self._writer = SummaryWriter(str(self._logdir))

    def on_batch(self, batch: BatchReport) -> None:
        """Write the loss of every tenth step, and the first batch's images."""
        assert self._writer is not None
        if not self._shown:
            self._shown = True
            self._writer.add_images("images/train", _viewable(batch.x[:SHOWN_IMAGES]), batch.step)
        if batch.step % EVERY_STEPS == 0:
            self._writer.add_scalar("loss/step", batch.loss, batch.step)

    def on_epoch(self, report: EpochReport) -> None:
        """Write the epoch's figures."""
        scalars = {
            "loss/train": report.train_loss,
            "learning_rate": report.learning_rate,
            "images_per_s": report.images_per_s,
            **{f"{name}/train": value for name, value in report.train_metrics.items()},
            **{f"{name}/test": value for name, value in report.test_metrics.items()},
        }
        if report.test_loss is not None:
            scalars["loss/test"] = report.test_loss
        assert self._writer is not None
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, report.epoch)

    def close(self) -> None:
        """Write what is left and close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _viewable(x: torch.Tensor) -> torch.Tensor:
    """Return images scaled to 0..1 with one or three channels, so that they can be drawn."""
    x = x.detach().float().cpu()
    x = x if x.shape[1] in {1, 3} else x[:, :1]
    low, high = x.amin(), x.amax()
    return (x - low) / (high - low).clamp(min=1e-6)
