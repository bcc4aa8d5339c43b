"""Runs that are stopped and resumed, and new runs in the folder of an old one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.trainer.diary import Diary
from trainer import (
    BatchReport,
    CheckpointError,
    EpochReport,
    fit,
    load_checkpoint,
)


def test_a_run_that_is_asked_to_stop_saves_and_resumes_bit_for_bit(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """A run that is stopped in an epoch and resumed has the same losses, metrics and weights."""
    params = {**small, "num_epochs": 3, "flip_images": True, "optim_kwargs": {"momentum": 0.9}}
    whole, first, second = Diary(), Diary(), Diary()
    result = fit(params, digits, tmp_path / "whole", observers=[whole])
    stopped = fit(
        params,
        digits,
        tmp_path / "cut",
        observers=[first],
        should_stop=lambda: len(first.of(BatchReport)) == 11,
    )
    assert (stopped.status, stopped.epoch) == ("stopped", 1)
    assert stopped.last is not None
    assert stopped.last.name == "epoch-00001-batch-00004.pt"
    torch.rand(5)
    resumed = fit(params, digits, tmp_path / "cut", observers=[second], resume=True)
    assert second.pages[0].resumed
    losses = [[page.loss for page in diary.of(BatchReport)] for diary in (whole, first, second)]
    assert losses[0] == losses[1] + losses[2]
    assert whole.of(EpochReport)[1].train_metrics == second.of(EpochReport)[0].train_metrics
    assert whole.of(EpochReport)[1].train_loss == second.of(EpochReport)[0].train_loss
    assert result.metrics == resumed.metrics
    assert result.last is not None
    assert resumed.last is not None
    expected, actual = (load_checkpoint(path).content for path in (result.last, resumed.last))
    for name, weight in expected["model"].items():
        assert torch.equal(weight, actual["model"][name]), name
    momentum = [
        content["optimiser"]["state"][0]["momentum_buffer"] for content in (expected, actual)
    ]
    assert torch.equal(*momentum)


def test_resume_passes_over_a_damaged_checkpoint(
    digits: Path, small: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If the newest checkpoint is cut short, a warning says so and the one before it is used."""
    result = fit(small, digits, tmp_path)
    assert result.last is not None
    result.last.write_bytes(result.last.read_bytes()[:-1000])
    diary = Diary()
    fit(small, digits, tmp_path, resume=True, observers=[diary])
    assert "checkpoint ignored" in caplog.text
    assert [one.epoch for one in diary.of(EpochReport)] == [2]


def test_resuming_with_another_net_is_refused(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """The error names the checkpoint; it is not half loaded."""
    fit(small, digits, tmp_path)
    with pytest.raises(CheckpointError, match=r"does not fit this run"):
        fit({**small, "net_arch": []}, digits, tmp_path, resume=True)


def test_a_new_run_sets_the_checkpoints_of_an_old_one_aside(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """Training again in the same folder neither loses nor mixes checkpoints."""
    fit({**small, "num_epochs": 3}, digits, tmp_path)
    fit({**small, "num_epochs": 1}, digits, tmp_path)
    names = {
        folder.name: len(list(folder.glob("epoch-*"))) for folder in tmp_path.glob("checkpoints*")
    }
    assert names == {"checkpoints": 1, "checkpoints.1": 3}


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_training(
    digits: Path,
    small: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full disk is logged as an error and the training goes on; only the last save must work."""
    from trainer.checkpoints import folder as checkpoint_folder  # noqa: PLC0415

    real, calls = checkpoint_folder.write_checkpoint, []

    def full_at_first(path: Path, content: dict[str, Any]) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(checkpoint_folder, "write_checkpoint", full_at_first)
    assert fit(small, digits, tmp_path).status == "finished"
    assert "No space left on device" in caplog.text
    assert [path.name for path in (tmp_path / "checkpoints").glob("epoch-*")] == ["epoch-00002.pt"]
