"""The metrics that decide on the best checkpoint and on an early stop."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.trainer.diary import Diary
from trainer import (
    CheckpointSaved,
    EpochReport,
    ParamsError,
    fit,
    load_checkpoint,
)

LINEAR: dict[str, Any] = {"net_arch": [], "precision": "float32", "learning_rate_schedule": []}


def test_training_stops_early_when_nothing_improves(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """With patience 2 and a rate near 0 the run ends after three evaluations, and is saved."""
    params = {
        **small,
        **LINEAR,
        "num_epochs": 50,
        "learning_rate": 1e-30,
        "early_stopping_patience": 2,
        "save_freq": 50,
    }
    result = fit(params, digits, tmp_path)
    assert (result.status, result.epoch) == ("finished", 3)
    assert result.last is not None
    assert result.last.name == "epoch-00003.pt"


def test_the_best_checkpoint_can_be_that_of_another_metric(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """With `best_metric` accuracy, best.pt is the epoch with the highest accuracy."""
    diary = Diary()
    result = fit(
        {**small, "num_epochs": 6, "best_metric": "accuracy", "learning_rate": 0.5},
        digits,
        tmp_path,
        observers=[diary],
    )
    best = max(diary.of(EpochReport), key=lambda one: one.test_metrics["accuracy"])
    assert result.best is not None
    assert load_checkpoint(result.best).metrics["accuracy"] == best.test_metrics["accuracy"]
    assert load_checkpoint(result.best).epoch == best.epoch


@pytest.mark.parametrize("key", ["best_metric", "early_stopping_metric"])
def test_an_unknown_metric_is_refused_before_the_first_step(
    digits: Path, small: dict[str, Any], tmp_path: Path, key: str
) -> None:
    """The error lists the available metrics, and nothing is trained."""
    text = rf"{key}: unknown metric 'acuracy'; available: loss, .*; did you mean accuracy\?"
    with pytest.raises(ParamsError, match=text):
        fit({**small, key: "acuracy"}, digits, tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


def test_the_best_checkpoint_is_that_of_the_lowest_test_loss(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """best.pt is the epoch with the best evaluation, not the last."""
    diary = Diary()
    result = fit(
        {**small, "num_epochs": 6, "learning_rate": 1.0}, digits, tmp_path, observers=[diary]
    )
    reports = diary.of(EpochReport)
    best = min(reports, key=lambda one: one.test_loss)
    assert result.best is not None
    assert best.epoch == load_checkpoint(result.best).epoch
    assert best.epoch == [saved.epoch for saved in diary.of(CheckpointSaved) if saved.is_best][-1]
