"""Labels, images and idx files: read as they are, and what is bad is named, all at once."""

import csv
import gzip
import os
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from trainer import DataError, FashionMNIST, Params, get_dataloader, save_data
from trainer.data.idx import read_idx, write_split
from trainer.data.splits import open_split, open_splits

SHARED = os.environ.get("DARKROOM_SHARED_DATA")


def write(folder: Path, labels: list[str], shape: tuple[int, ...] = (28, 28)) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (len(labels), *shape), dtype=np.uint8)
    write_split(folder, images, labels)
    return folder


def findings(params: Any, datadir: Path) -> list[str]:
    with pytest.raises(DataError) as caught:
        open_splits(Params.validate_all(params), datadir)
    return list(caught.value.findings)


def test_a_batch_is_the_pictures_and_labels_of_the_files(
    digits: Path, small: dict[str, Any]
) -> None:
    """The memory map gives exactly what the PNG files hold, scaled to 0..1."""
    x, y = next(iter(get_dataloader(small, "test", digits)))
    with (digits / "test" / "info.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = cv2.imread(str(digits / "test" / rows[7]["files"]), cv2.IMREAD_GRAYSCALE)
    assert x.shape == (100, 1, 28, 28)
    assert np.array_equal(expected.astype(np.float32) / 255, x[7, 0].numpy())
    assert int(rows[7]["type"]) == y[7]


def test_a_dataset_gives_samples_also_to_a_dataloader_of_ones_own(
    digits: Path, small: dict[str, Any]
) -> None:
    """FashionMNIST is an ordinary Dataset: samples by index, batches by torch's collation."""
    dataset = FashionMNIST(small, "train", digits)
    x, y = dataset[3]
    batch, labels = next(iter(DataLoader(dataset, batch_size=8)))
    assert len(dataset) == 200
    assert torch.equal(x, batch[3])
    assert y == labels[3]
    with pytest.raises(IndexError):
        dataset[200]


def test_the_dataloader_shuffles_training_images_by_seed(
    digits: Path, small: dict[str, Any]
) -> None:
    """Two loaders of a seed give one order, another seed another, and no shuffle the table's."""
    first, again, other, plain = (
        torch.cat([y for _, y in get_dataloader({**small, **change}, "train", digits)])
        for change in ({}, {}, {"manual_seed": 18}, {"shuffle_dataset": False})
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(FashionMNIST(small, "train", digits).split.labels, plain)


def test_flips_happen_in_training_with_their_probability(
    digits: Path, small: dict[str, Any]
) -> None:
    """With probability 1 every training image is turned by half; test images never are."""
    params = {**small, "flip_images": True, "flip_probability": 1.0}
    plain, flipped = FashionMNIST(small, "train", digits), FashionMNIST(params, "train", digits)
    assert torch.equal(plain[0][0].flip(1, 2), flipped[0][0])
    test = FashionMNIST(small, "test", digits)[0][0]
    assert torch.equal(test, FashionMNIST(params, "test", digits)[0][0])
    half = FashionMNIST({**params, "flip_probability": 0.4}, "train", digits)
    x = half.__getitems__(range(200)).x
    upright = sum(torch.equal(one, plain[index][0]) for index, one in enumerate(x))
    assert 45 < upright < 100  # 0.6 x 0.6 of 200 is 72


def test_normalisation_and_additional_transforms_come_after_the_scaling(
    digits: Path, small: dict[str, Any]
) -> None:
    """X becomes (x/255 - mean)/std, and then goes through the transforms in order."""
    plain = FashionMNIST(small, "test", digits)[0][0]
    crop = {"class": "torchvision.transforms.v2.CenterCrop", "kwargs": {"size": 20}}
    params = {
        **small,
        "normalise_images": True,
        "normalise_mean": [0.5],
        "normalise_std": [0.25],
        "additional_transforms": [crop, lambda x: -x],
    }
    x = FashionMNIST(params, "test", digits)[0][0]
    assert torch.allclose(-(plain[:, 4:24, 4:24] - 0.5) / 0.25, x)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["2", "0", "2"], ["0", "1", "2"]),
        (["10", "9", "30"], ["9", "10", "30"]),
        (["boot", "bag", "shirt 10", "shirt 9"], ["bag", "boot", "shirt 9", "shirt 10"]),
        (["1.0", "0", "02"], ["0", "1", "2"]),
    ],
)
def test_classes_are_numbers_or_words_in_natural_order(
    tmp_path: Path, small: dict[str, Any], labels: list[str], expected: list[str]
) -> None:
    """Class names come in the order that people count and spell in."""
    write(tmp_path / "train", labels)
    params = Params.validate_all({**small, "n_classes": len(expected)})
    split = open_split(params, "train", tmp_path)
    assert expected == list(split.class_names)
    shortened = {"1.0": "1", "02": "2"}
    assert [shortened.get(label, label) for label in labels] == [
        split.class_names[index] for index in split.labels
    ]


def test_every_bad_file_of_both_splits_is_in_one_report(
    tmp_path: Path, small: dict[str, Any]
) -> None:
    """Missing, broken, wrong-sized and float files are all named, before training."""
    train = write(tmp_path / "train", ["0", "1", "2", "3", "4"])
    test = write(tmp_path / "test", ["0", "11"])
    (train / "000000.png").write_bytes(b"no picture")
    (train / "000001.png").write_bytes(b"")
    for name, image in {
        "000002.png": np.zeros((20, 30), np.uint8),
        "000003.png": np.zeros((30, 20, 3), np.uint8),
    }.items():
        cv2.imwrite(str(train / name), image)
    cv2.imwrite(str(train / "float.tif"), np.zeros((28, 28), np.float32))
    (train / "float.tif").rename(train / "000004.png")
    text = "\n".join(findings(small, tmp_path))
    for part in (
        "000000.png is not an image",
        "000001.png is not an image",
        "000002.png has 30x20 pixels, not 28x28",
        "000003.png has 20x30 pixels, not 28x28",
        "000004.png has float32 values",
        "000001.png has the unknown label '11'; classes: 0, 1, 2",
    ):
        assert part in text
    (test / "000000.png").unlink()
    assert "000000.png is listed in info.csv but is not there" in "\n".join(
        findings(small, tmp_path)
    )


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("files,type\n", "lists no image: the split is empty"),
        ("", "lists no image: the split is empty"),
        ("file,label\na.png,1\n", "lacks the column files and type; it has file, label"),
        ("files,type\n../../secret.png,1\n", "is outside the split's folder"),
        ("files,type\n/etc/passwd,1\n", "is outside the split's folder"),
        ("files,type\na.png\n", "line 2: file or type is empty"),
        ("files,type\n\ufffd\x00,1\n", "info.csv"),
    ],
)
def test_a_bad_table_is_named(
    tmp_path: Path, small: dict[str, Any], table: str, expected: str
) -> None:
    """An info.csv that is empty, lacks columns or leads out of its folder is refused."""
    write(tmp_path / "test", ["0"])
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "info.csv").write_text(table)
    assert expected in "\n".join(findings(small, tmp_path))


def test_too_many_classes_are_listed(tmp_path: Path, small: dict[str, Any]) -> None:
    """Words that do not fit n_classes are named with the number that would fit."""
    write(tmp_path / "train", ["bag", "boot", "shirt"])
    write(tmp_path / "test", ["bag"])
    text = "\n".join(findings({**small, "n_classes": 2}, tmp_path))
    assert "has 3 classes (bag, boot, shirt) but n_classes is 2; set n_classes=3" in text


def test_the_map_is_rebuilt_when_a_file_changes(tmp_path: Path, small: dict[str, Any]) -> None:
    """The memory map is kept between runs, and never serves a picture that has changed since."""
    train = write(tmp_path / "train", ["0", "1"])
    params = Params.validate_all(small)
    first = open_split(params, "train", tmp_path).images.array.copy()
    kept = list((train / ".darkroom").iterdir())
    again = open_split(params, "train", tmp_path).images.array
    assert kept == list((train / ".darkroom").iterdir())
    assert np.array_equal(first, again)
    cv2.imwrite(str(train / "000001.png"), np.full((28, 28), 7, np.uint8))
    changed = open_split(params, "train", tmp_path).images.array
    assert (changed[1] == 7).all()
    assert len(list((train / ".darkroom").iterdir())) == 1


def test_colour_images_come_as_red_green_blue(tmp_path: Path, small: dict[str, Any]) -> None:
    """A red PNG has its value in the first channel."""
    train = write(tmp_path / "train", ["0"], (28, 28, 3))
    cv2.imwrite(str(train / "000000.png"), np.full((28, 28, 3), (0, 0, 255), np.uint8))
    net = [{"class": "torch.nn.Flatten"}]
    x, _ = FashionMNIST({**small, "is_image_color": True, "net_arch": net}, "train", tmp_path)[0]
    assert x.mean((1, 2)).tolist() == [1.0, 0.0, 0.0]


def test_idx_files_under_their_usual_names_are_unpacked(tmp_path: Path) -> None:
    """t10k-... counts as the test split, and what is unpacked is what was packed."""
    images = np.random.default_rng(1).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    labels = np.array([3, 1, 4, 1, 5, 9], np.uint8)
    for prefix in ("train", "t10k"):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", labels)
    assert save_data(tmp_path, tmp_path / "data") == {"train": 6, "test": 6}
    with (tmp_path / "data" / "test" / "info.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [str(label) for label in labels] == [row["type"] for row in rows]
    for row, image in zip(rows, images, strict=True):
        assert np.array_equal(
            cv2.imread(str(tmp_path / "data" / "test" / row["files"]), cv2.IMREAD_UNCHANGED), image
        )


def write_idx(path: Path, values: np.ndarray, cut: int = 0, magic: int = 8) -> None:
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, magic, values.ndim, *values.shape)
    data = header + values.tobytes()
    path.write_bytes(gzip.compress(data[: len(data) - cut]))


def test_bad_idx_files_are_all_named_and_nothing_is_written(tmp_path: Path) -> None:
    """Cut short, wrong magic number, damaged gzip, missing, and unequal counts: one report."""
    images, labels = np.zeros((4, 28, 28), np.uint8), np.zeros(4, np.uint8)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", images, cut=5)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", labels, magic=9)
    (tmp_path / "test-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8bdamaged")
    with pytest.raises(DataError) as caught:
        save_data(tmp_path, tmp_path / "data")
    text = str(caught.value)
    for part in (
        "train-images-idx3-ubyte.gz has 3131 values, but its header says [4, 28, 28]",
        "train-labels-idx1-ubyte.gz starts with 00 00 09 01, not 00 00 08 01",
        "test-images-idx3-ubyte.gz is damaged or not a gzip file",
        "holds no test-labels-idx1-ubyte.gz nor t10k-labels-idx1-ubyte.gz",
    ):
        assert part in text
    assert not (tmp_path / "data").exists()
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", labels[:3])
    with pytest.raises(DataError, match="4 train images but 3 labels"):
        save_data(tmp_path, tmp_path / "data")


def test_an_idx_header_of_absurd_sizes_is_refused(tmp_path: Path) -> None:
    """A header that promises 2**96 values is an error, not an attempt to read them."""
    path = tmp_path / "file"
    path.write_bytes(bytes([0, 0, 8, 3]) + b"\xff" * 12 + b"abc")
    with pytest.raises(DataError, match="cut short or damaged"):
        read_idx(path, 3)


@pytest.mark.skipif(not SHARED, reason="needs DARKROOM_SHARED_DATA, a folder with real idx files")
def test_real_fashion_mnist_is_unpacked_and_loaded(tmp_path: Path, small: dict[str, Any]) -> None:
    """Real Fashion-MNIST files go through save_data and come out as batches."""
    assert SHARED is not None
    assert save_data(Path(SHARED) / "fashion", tmp_path) == {"train": 600, "test": 150}
    x, y = next(iter(get_dataloader(small, "train", tmp_path)))
    assert x.shape == (32, 1, 28, 28)
    assert set(range(10)) >= set(y.tolist())
