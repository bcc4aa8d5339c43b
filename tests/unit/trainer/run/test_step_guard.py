"""Steps that are not finite are skipped; too many of them end the run."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer import DivergedError, fit, load_checkpoint
from trainer.checkpoints import folder as checkpoint_folder
from trainer.checkpoints.checkpoint import write_checkpoint


class Poison:
    """A transform that spoils chosen batches."""

    def __init__(self, *batches: int) -> None:
        self.batches = batches
        self.seen = -3  # the tries of the validation: the params', the net's and the transforms'

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) == 2:
            return x
        self.seen += 1
        return x * float("nan") if self.seen + 2 in self.batches else x


def test_a_bad_batch_is_skipped_and_leaves_no_trace(
    digits: Path, small: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Weights and running statistics stay finite, the step is counted, and its files are named."""
    params = {
        **small,
        "num_epochs": 1,
        "additional_transforms": [Poison(2, 4)],
        "optim_kwargs": {"momentum": 0.9},
    }
    result = fit(params, digits, tmp_path)
    assert result.last is not None
    content = load_checkpoint(result.last).content
    assert content["skipped"] == 2
    for name, weight in content["model"].items():
        assert torch.isfinite(weight.float()).all(), name
    assert caplog.text.count("step skipped") == 2
    assert ".png" in caplog.text


def test_too_many_bad_batches_in_a_row_end_the_run(
    digits: Path, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the files and the last good checkpoint, also one that is being written."""

    def write_slowly(*arguments: Any) -> Any:
        time.sleep(1.0)
        return write_checkpoint(*arguments)

    monkeypatch.setattr(checkpoint_folder, "write_checkpoint", write_slowly)
    params = {
        **small,
        "num_epochs": 3,
        "additional_transforms": [Poison(*range(9, 40))],
        "most_bad_steps": 3,
    }
    with pytest.raises(
        DivergedError, match=r"3 steps in a row .*\.png.* last good checkpoint: .*epoch-00001\.pt"
    ):
        fit(params, digits, tmp_path)
    assert load_checkpoint(tmp_path / "checkpoints" / "epoch-00001.pt").epoch == 1


def test_a_learning_rate_that_is_far_too_high_is_a_clear_error(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """When weights overflow, the run ends with an error and no broken model is written."""
    params = {**small, "learning_rate": 1e30, "num_epochs": 20}
    with pytest.raises(DivergedError, match="try a lower learning_rate"):
        fit(params, digits, tmp_path)
