"""Tells the worker what happens in a training run."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import trainer

__all__ = ["Reporter"]


class Reporter(trainer.Observer):
    """Sends the run's reports on as JSON.

    Args:
        send: Takes a message's name and its fields.
        logdir: The worker's log directory, which paths are told relative to.
    """

    def __init__(self, send: Callable[..., None], logdir: Path) -> None:
        self._send = send
        self._logdir = logdir

    def on_start(self, started: trainer.RunStarted) -> None:
        """The run begins or goes on."""
        self._send("started", **asdict(started))

    def on_epoch(self, report: trainer.EpochReport) -> None:
        """An epoch is done; what each test image got stays here."""
        figures = asdict(replace(report, test_outputs=None))
        del figures["test_outputs"]
        self._send("epoch", **figures)

    def on_checkpoint(self, saved: trainer.CheckpointSaved) -> None:
        """A checkpoint is on disk."""
        self._send(
            "checkpoint",
            checkpoint=str(saved.path.relative_to(self._logdir)),
            epoch=saved.epoch,
            is_best=saved.is_best,
            metrics=dict(saved.metrics),
        )
