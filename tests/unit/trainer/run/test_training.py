"""Training with the built-in steps, as `fit` does it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.trainer.diary import Diary
from trainer import (
    BatchReport,
    DataError,
    EpochReport,
    ParamsError,
    RunStarted,
    evaluate,
    fit,
    load_checkpoint,
    predict,
)


def test_fit_learns_the_digits(digits: Path, small: dict[str, Any], tmp_path: Path) -> None:
    """After some epochs on 200 digits the net knows most of 100 others."""
    diary = Diary()
    result = fit({**small, "num_epochs": 8}, digits, tmp_path, observers=[diary])
    assert (result.status, result.epoch, result.num_epochs) == ("finished", 8, 8)
    assert result.metrics["accuracy"] > 0.75
    assert RunStarted(8, 0, 200, 100, resumed=False, n_batches=7) == diary.pages[0]
    assert list(range(1, 9)) == [report.epoch for report in diary.of(EpochReport)]
    assert len(diary.of(BatchReport)) == 56
    assert result == diary.pages[-1]
    last = diary.of(EpochReport)[-1]
    assert last.test_metrics["accuracy"] == result.metrics["accuracy"]
    assert last.test_loss == result.metrics["loss"]


def test_the_same_seed_gives_the_same_weights(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """Two runs with the same seed end with the same weights, bit for bit; another seed does not."""
    seeds = {"a": 17, "b": 17, "c": 18}
    weights = {}
    for name, seed in seeds.items():
        result = fit({**small, "manual_seed": seed, "flip_images": True}, digits, tmp_path / name)
        assert result.last is not None
        weights[name] = load_checkpoint(result.last).content["model"]["head.weight"]
    assert torch.equal(weights["a"], weights["b"])
    assert not torch.equal(weights["a"], weights["c"])


def test_evaluation_and_saving_keep_their_frequencies(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """`eval_freq` and `save_freq` count epochs; the last epoch is always evaluated and saved."""
    diary = Diary()
    params = {**small, "num_epochs": 5, "eval_freq": 3, "save_freq": 2}
    result = fit(params, digits, tmp_path, observers=[diary])
    evaluated = [one.epoch for one in diary.of(EpochReport) if one.test_loss is not None]
    assert evaluated == [3, 5]
    files = sorted(path.name for path in (tmp_path / "checkpoints").glob("epoch-*"))
    assert files == ["epoch-00002.pt", "epoch-00004.pt", "epoch-00005.pt"]
    assert tmp_path / "checkpoints" / "epoch-00005.pt" == result.last
    assert tmp_path / "checkpoints" / "best.pt" == result.best


def test_wrong_params_and_bad_data_are_found_before_anything_is_written(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """No log folder is made for a run that cannot start."""
    with pytest.raises(ParamsError):
        fit({**small, "batch_size": 0}, digits, tmp_path / "logs")
    with pytest.raises(DataError):
        fit(small, tmp_path / "nowhere", tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


def test_evaluate_and_predict_agree_with_the_training(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """A checkpoint alone reproduces the metrics of its epoch and names classes for files."""
    result = fit(small, digits, tmp_path)
    assert result.last is not None
    evaluation = evaluate(result.last, digits)
    assert result.metrics == pytest.approx(evaluation.metrics, abs=1e-3)
    assert evaluation.confusion.sum() == 100
    assert [row["images"] for row in evaluation.per_class.values()] == [10.0] * 10
    files = sorted((digits / "test").glob("*.png"))[:20]
    predictions = list(predict(result.last, [*files, digits / "test" / "info.csv"]))
    checkpoint = load_checkpoint(result.last)
    model, transform, reader = (
        checkpoint.classifier(), checkpoint.transform(), checkpoint.image_reader(),
    )  # fmt: skip
    pixels = torch.stack([torch.from_numpy(reader.read(file)) for file in files])
    assert [str(int(index)) for index in model(transform(pixels)).argmax(1)] == [
        one.label for one in predictions[:20]
    ]
    assert "is not an image" in str(predictions[20].error)
