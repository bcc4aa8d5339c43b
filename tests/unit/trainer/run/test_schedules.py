"""Learning-rate schedules: warm-up, per epoch, per batch, and at a plateau."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.unit.trainer.diary import Diary
from trainer import (
    EpochReport,
    Params,
    fit,
)
from trainer.run.schedules import Schedules


def rates(steps: int, epochs: int, **params: Any) -> list[float]:
    valid = Params.validate_all({"learning_rate": 1.0, **params})
    optim = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    schedules = Schedules(valid, optim)
    found = []
    for _ in range(epochs):
        for _ in range(steps):
            found.append(schedules.learning_rate)
            optim.step()
            schedules.after_batch()
        schedules.after_epoch({})
    return found


def test_warm_up_raises_the_rate_step_by_step() -> None:
    """Four steps of warm-up: a fifth, two fifths, ... and then the schedules alone."""
    steps = rates(3, 2, warmup_steps=4, learning_rate_schedule=[])
    assert steps == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert rates(6, 1, warmup_steps=4, learning_rate_schedule=[])[-1] == pytest.approx(1.0)


def test_a_schedule_can_be_stepped_per_batch() -> None:
    """`every: batch` halves the rate at each batch, `every: epoch` at each epoch."""
    halve = {"class": "torch.optim.lr_scheduler.ExponentialLR", "kwargs": {"gamma": 0.5}}
    assert rates(2, 2, learning_rate_schedule=[{**halve, "every": "batch"}]) == [
        1,
        0.5,
        0.25,
        0.125,
    ]
    assert rates(2, 2, learning_rate_schedule=[halve]) == [1, 1, 0.5, 0.5]


def test_a_plateau_can_be_that_of_any_metric() -> None:
    """ReduceLROnPlateau with mode max and metric accuracy reacts to accuracy."""
    plateau = {
        "class": "torch.optim.lr_scheduler.ReduceLROnPlateau",
        "kwargs": {"mode": "max", "patience": 0, "factor": 0.5},
        "metric": "accuracy",
    }
    valid = Params.validate_all({"learning_rate_schedule": [plateau]})
    optim = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedules = Schedules(valid, optim)
    found = []
    for accuracy in (0.5, 0.6, 0.6):
        schedules.after_epoch({"loss": 1 - accuracy, "accuracy": accuracy})
        found.append(schedules.learning_rate)
    assert found == [1.0, 1.0, 0.5]


def test_schedules_act_together(digits: Path, small: dict[str, Any], tmp_path: Path) -> None:
    """Two schedules multiply; ReduceLROnPlateau reacts to the evaluation loss."""
    exponential = {
        "name": "a",
        "class": torch.optim.lr_scheduler.ExponentialLR,
        "kwargs": {"gamma": 0.5},
    }
    steps = {
        "name": "b",
        "class": torch.optim.lr_scheduler.StepLR,
        "kwargs": {"step_size": 2, "gamma": 0.1},
    }
    diary = Diary()
    params = {
        **small,
        "num_epochs": 3,
        "learning_rate": 0.1,
        "learning_rate_schedule": [exponential, steps],
    }
    fit(params, digits, tmp_path / "a", observers=[diary])
    assert pytest.approx([one.learning_rate for one in diary.of(EpochReport)]) == [
        0.1,
        0.05,
        0.0025,
    ]
    plateau = {
        "class": torch.optim.lr_scheduler.ReduceLROnPlateau,
        "kwargs": {"factor": 0.1, "patience": 0, "threshold": 10.0, "threshold_mode": "abs"},
    }
    diary = Diary()
    fit({**params, "learning_rate_schedule": [plateau]}, digits, tmp_path / "b", observers=[diary])
    assert pytest.approx([one.learning_rate for one in diary.of(EpochReport)]) == [0.1, 0.1, 0.01]
