"""Splits: which images are trained on, and which are tested on."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from trainer import DataError, Params
from trainer.data.idx import write_split
from trainer.data.splits import open_splits


def pictures(folder: Path, labels: list[str], size: tuple[int, int] = (28, 28)) -> None:
    images = np.random.default_rng(0).integers(0, 256, (len(labels), *size), dtype=np.uint8)
    write_split(folder, images, labels)


def test_training_images_are_held_out_where_there_is_no_test_folder(
    tmp_path: Path, small: dict[str, Any]
) -> None:
    """The same share of every class, drawn by the seed; no image is in both."""
    pictures(tmp_path / "train", ["0"] * 40 + ["1"] * 10)
    params = Params.validate_all({**small, "n_classes": 2, "validation_split": 0.2})
    train, test = open_splits(params, tmp_path)
    assert torch.bincount(train.labels).tolist() == [32, 8]
    assert torch.bincount(test.labels).tolist() == [8, 2]
    assert not set(train.files) & set(test.files)
    assert open_splits(params, tmp_path)[1].files == test.files
    other = params.model_copy(update={"manual_seed": 18})
    assert open_splits(other, tmp_path)[1].files != test.files
    for split in (train, test):
        name = tmp_path / "train" / split.files[3]
        expected = cv2.imread(str(name), cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(expected, split.pixels(torch.tensor([3]))[0, :, :, 0].numpy())


def test_a_missing_test_folder_and_a_class_of_one_are_named(
    tmp_path: Path, small: dict[str, Any]
) -> None:
    """The error proposes validation_split, and names the class that cannot be divided."""
    pictures(tmp_path / "train", ["0"] * 5 + ["1"])
    with pytest.raises(DataError, match=r"validation_split=0\.2"):
        open_splits(Params.validate_all({**small, "n_classes": 2}), tmp_path)
    params = Params.validate_all({**small, "n_classes": 2, "validation_split": 0.2})
    with pytest.raises(DataError, match="class 1 has 1 images, too few"):
        open_splits(params, tmp_path)


def test_images_of_other_sizes_are_resized_on_request(
    tmp_path: Path, small: dict[str, Any]
) -> None:
    """By default another size is an error; with resize_images it is resized."""
    for kind in ("train", "test"):
        pictures(tmp_path / kind, ["0", "1"], (56, 40))
    with pytest.raises(DataError, match="has 40x56 pixels, not 28x28"):
        open_splits(Params.validate_all(small), tmp_path)
    train, _ = open_splits(Params.validate_all({**small, "resize_images": True}), tmp_path)
    picture = cv2.imread(str(tmp_path / "train" / "000001.png"), cv2.IMREAD_GRAYSCALE)
    expected = cv2.resize(picture, (28, 28), interpolation=cv2.INTER_AREA)
    assert np.array_equal(expected, train.pixels(torch.tensor([1]))[0, :, :, 0].numpy())
