"""Cross-validation: the images of each fold, the results, and resuming."""

import json
from collections import Counter
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch

from tests.unit.trainer.diary import Diary
from trainer import (
    BatchReport,
    CheckpointError,
    DataError,
    EpochReport,
    Params,
    ParamsError,
    RunStarted,
    cross_validate,
    load_checkpoint,
)
from trainer.data.splits import folds, open_split
from worker.testing.digits import write_digits


def test_each_image_is_tested_on_once_and_never_trained_on_there(
    digits: Path, small: dict[str, Any]
) -> None:
    """The folds are stratified, equally large, and drawn by the seed."""
    split = open_split(Params.validate_all(small), "train", digits)
    pairs = folds(split, 3, seed=17)
    tested = [file for _, test in pairs for file in test.files]
    assert sorted(tested) == sorted(split.files)
    for train, test in pairs:
        assert sorted((*train.files, *test.files)) == sorted(split.files)
        assert len(test) in {66, 67}
        counts = Counter(test.labels.tolist())
        assert set(counts) == set(range(10))
        assert set(counts.values()) <= {6, 7}
        label_of = dict(zip(split.files, split.labels.tolist(), strict=True))
        assert [label_of[file] for file in train.files] == train.labels.tolist()
        row = split.files.index(test.files[3])
        assert torch.equal(test.pixels(torch.tensor([3])), split.pixels(torch.tensor([row])))
    assert [test.files for _, test in folds(split, 3, 17)] == [test.files for _, test in pairs]
    assert [test.files for _, test in folds(split, 3, 18)] != [test.files for _, test in pairs]


def test_every_fold_is_a_new_model_and_the_file_has_the_results(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """One run per fold, each from the same start; mean and deviation are those of the folds."""
    diary = Diary()
    result = cross_validate(small, digits, tmp_path, 3, observers=[diary])
    assert (result.status, [fold.number for fold in result.folds]) == ("finished", [1, 2, 3])
    assert [(one.n_train, one.n_test) for one in diary.of(RunStarted)] == [(133, 67)] * 2 + [
        (134, 66)
    ]
    assert [one.epoch for one in diary.of(EpochReport)] == [1, 2] * 3
    first = [one.loss for one in diary.of(BatchReport) if (one.epoch, one.batch) == (0, 0)]
    assert first == pytest.approx([2.4] * 3, abs=0.4)  # of a net that knows nothing yet
    accuracies = [fold.metrics["accuracy"] for fold in result.folds]
    last = [one.test_metrics["accuracy"] for one in diary.of(EpochReport) if one.epoch == 2]
    assert accuracies == last
    assert result.mean["accuracy"] == fmean(accuracies)
    assert result.std["accuracy"] == stdev(accuracies)
    written = json.loads((tmp_path / "folds.json").read_text())
    assert (written["folds"], written["manual_seed"], written["images"]) == (3, 17, 200)
    assert written["mean"] == result.mean
    assert [one["metrics"]["accuracy"] for one in written["done"]] == accuracies
    for number in (1, 2, 3):
        assert load_checkpoint(tmp_path / f"fold-{number}/checkpoints/best.pt").epoch in {1, 2}


def test_the_test_folder_is_not_needed(small: dict[str, Any], tmp_path: Path) -> None:
    """Only the training images are used, also with a `validation_split`."""
    write_digits(tmp_path / "data", 100, 10)
    (tmp_path / "data" / "test").rename(tmp_path / "elsewhere")
    params = {**small, "num_epochs": 1, "validation_split": 0.5}
    result = cross_validate(params, tmp_path / "data", tmp_path / "logs", 2)
    assert [fold.images for fold in result.folds] == [50, 50]


def test_a_stopped_cross_validation_resumes_with_the_folds_that_are_not_done(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """Stopped in the second fold and resumed: the same results, and the first is not repeated."""
    whole, first, second = Diary(), Diary(), Diary()
    expected = cross_validate(small, digits, tmp_path / "whole", 3, observers=[whole])
    stopped = cross_validate(
        small, digits, tmp_path / "cut", 3,
        observers=[first], should_stop=lambda: len(first.of(BatchReport)) == 17,
    )  # fmt: skip
    assert (stopped.status, len(stopped.folds), stopped.std) == ("stopped", 1, {})
    resumed = cross_validate(small, digits, tmp_path / "cut", 3, observers=[second], resume=True)
    assert resumed == expected
    assert [one.resumed for one in second.of(RunStarted)] == [True, False]  # of folds 2 and 3
    losses = [[page.loss for page in diary.of(BatchReport)] for diary in (whole, first, second)]
    assert losses[0] == losses[1] + losses[2]
    again = cross_validate(small, digits, tmp_path / "cut", 3, resume=True)
    assert again == expected


def test_resuming_with_other_folds_is_refused(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """With other folds or another seed some images would be tested on twice."""
    cross_validate({**small, "num_epochs": 1}, digits, tmp_path, 2)
    with pytest.raises(CheckpointError, match="has folds=2, but now it is 3"):
        cross_validate(small, digits, tmp_path, 3, resume=True)
    with pytest.raises(CheckpointError, match="has manual_seed=17, but now it is 5"):
        cross_validate({**small, "manual_seed": 5}, digits, tmp_path, 2, resume=True)
    (tmp_path / "folds.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"folds.json cannot be read"):
        cross_validate(small, digits, tmp_path, 2, resume=True)


def test_a_new_cross_validation_resumes_nothing_of_an_earlier_one(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """When stopped in its first fold and resumed, it trains the second one anew."""
    params = {**small, "num_epochs": 1}
    cross_validate(params, digits, tmp_path, 2)
    cross_validate(params, digits, tmp_path, 2, should_stop=lambda: True)
    diary = Diary()
    cross_validate(params, digits, tmp_path, 2, observers=[diary], resume=True)
    assert [one.resumed for one in diary.of(RunStarted)] == [True, False]
    assert (tmp_path / "fold-2" / "checkpoints.1").exists()


def test_a_class_with_too_few_images_is_named(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """It could not be in every fold; and a single fold is refused."""
    with pytest.raises(DataError, match=r"class 0 has \d+ images, fewer than 40 folds"):
        cross_validate(small, digits, tmp_path, 40)
    with pytest.raises(ParamsError, match="folds: 1 are too few"):
        cross_validate(small, digits, tmp_path, 1)
    assert list(tmp_path.iterdir()) == []
