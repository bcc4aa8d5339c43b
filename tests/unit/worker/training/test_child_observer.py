"""What a training process reports to its worker."""

import math
from pathlib import Path

import pytest
import torch

import trainer
from trainer import observers
from worker.training.process.messages import (
    JobCheckpoint,
    JobEpoch,
    JobReport,
    JobStarted,
    from_line,
    to_line,
)
from worker.training.process.observer import ChildObserver


@pytest.fixture
def sent() -> list[JobReport]:
    return []


@pytest.fixture
def observer(sent: list[JobReport]) -> ChildObserver:
    return ChildObserver(sent.append, Path("logs"))


def test_a_run_begins_with_its_size(observer: ChildObserver, sent: list[JobReport]) -> None:
    """The worker learns how much there is to do, and whether the run goes on."""
    observer.on_start(trainer.RunStarted(9, 3, 1000, 200, resumed=True, n_batches=16))

    assert sent == [JobStarted(num_epochs=9, first_epoch=3, n_train=1000, n_test=200, resumed=True)]


def test_an_epoch_is_reported_as_plain_figures(
    observer: ChildObserver, sent: list[JobReport]
) -> None:
    """The outputs for each test image, which are tensors, stay in the training process."""
    report = trainer.EpochReport(
        epoch=1,
        num_epochs=2,
        train_loss=0.5,
        train_metrics={"accuracy": 0.9},
        test_loss=None,
        test_metrics={},
        learning_rate=0.1,
        images_per_s=100.0,
        seconds=1.0,
        test_outputs=observers.TestOutputs(
            torch.zeros(1, 2), torch.zeros(1), torch.zeros(1), ("a", "b")
        ),
    )
    observer.on_epoch(report)

    (message,) = sent
    assert isinstance(message, JobEpoch)
    assert (message.epoch, message.train_loss, message.train_metrics) == (1, 0.5, {"accuracy": 0.9})
    assert from_line(to_line(message)) == message


def test_a_checkpoint_is_named_by_its_place_in_the_log_directory(
    observer: ChildObserver, sent: list[JobReport]
) -> None:
    """Every worker on the log directory understands the path, and NaN travels as null."""
    path = Path("logs/a/checkpoints/epoch-00002.pt")
    observer.on_checkpoint(
        trainer.CheckpointSaved(path, 2, is_best=True, metrics={"loss": math.nan})
    )

    assert from_line(to_line(sent[0])) == JobCheckpoint(
        checkpoint="a/checkpoints/epoch-00002.pt", epoch=2, is_best=True, metrics={"loss": None}
    )
