"""Reports a training run, from its own process, to the worker."""

from collections.abc import Callable
from pathlib import Path

import trainer
from worker.training.process.messages import JobCheckpoint, JobEpoch, JobReport, JobStarted

__all__ = ["ChildObserver"]


class ChildObserver(trainer.Observer):
    """Sends the reports of a run as messages.

    Args:
        send: Sends one report to the worker.
        logdir: The worker's log directory; paths in messages are relative to it.
    """

    def __init__(self, send: Callable[[JobReport], None], logdir: Path) -> None:
        self._send = send
        self._logdir = logdir

    def on_start(self, started: trainer.RunStarted) -> None:
        """JobReport that the run begins or goes on."""
        self._send(
            JobStarted(
                num_epochs=started.num_epochs,
                first_epoch=started.first_epoch,
                n_train=started.n_train,
                n_test=started.n_test,
                resumed=started.resumed,
            )
        )

    def on_epoch(self, report: trainer.EpochReport) -> None:
        """JobReport the figures of an epoch, without the outputs for each test image."""
        self._send(
            JobEpoch(
                epoch=report.epoch,
                num_epochs=report.num_epochs,
                train_loss=report.train_loss,
                test_loss=report.test_loss,
                train_metrics=dict(report.train_metrics),
                test_metrics=dict(report.test_metrics),
                learning_rate=report.learning_rate,
                images_per_s=report.images_per_s,
            )
        )

    def on_checkpoint(self, saved: trainer.CheckpointSaved) -> None:
        """JobReport that a checkpoint is on disk."""
        self._send(
            JobCheckpoint(
                checkpoint=str(saved.path.relative_to(self._logdir)),
                epoch=saved.epoch,
                is_best=saved.is_best,
                metrics=dict(saved.metrics),
            )
        )
