"""One file gives one input, whichever way it goes: no model is served other pixels than it saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aiokafka.structs import ConsumerRecord
from numpy.typing import NDArray
from torch import Tensor

import trainer
from tests.unit.image_files import files
from trainer.cli.export import pixels_of_files
from trainer.data.splits import open_split
from worker.images.decode import Limits, decode
from worker.images.model import load_model

LIMITS = Limits(n_bytes=1_000_000, n_pixels=1_000_000)
SIZES = {"28x28": (28, 28), "20x50": (50, 20), "40x10": (10, 40), "9x9": (9, 9), "90x70": (70, 90)}
PICTURES = {
    f"{size}-{name}": data for size, sides in SIZES.items() for name, data in files(*sides).items()
}


@pytest.fixture(scope="module", params=[False, True], ids=["grey model", "colour model"])
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Train on the pictures; return the data folder and the checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    for kind in ("train", "test"):
        (folder / kind).mkdir()
        for name, data in PICTURES.items():
            (folder / kind / name).write_bytes(data)
        rows = [f"{name},{number % 10}" for number, name in enumerate(PICTURES)]
        (folder / kind / "info.csv").write_text("\n".join(["files,type", *rows]))
    params = {
        "net_arch": [], "num_epochs": 1, "device": "cpu", "is_image_color": request.param,
        "resize_images": True, "eval_batch_size": 100,
    }  # fmt: skip
    result = trainer.fit(params, folder, folder / "logs", should_stop=lambda: False)
    assert result.last is not None
    return folder, result.last


def in_training(folder: Path, checkpoint: Path) -> NDArray[np.uint8]:
    split = open_split(trainer.load_checkpoint(checkpoint).params, "train", folder)
    return split.pixels(torch.arange(len(split))).numpy()


def in_predict(
    folder: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> NDArray[np.uint8]:
    seen: list[NDArray[np.uint8]] = []
    make_transform = trainer.Checkpoint.transform

    def watched(self: trainer.Checkpoint) -> Any:
        transform = make_transform(self)

        def watch(images: Tensor) -> Tensor:
            seen.append(images.numpy().copy())
            return transform(images)

        return watch

    monkeypatch.setattr(trainer.Checkpoint, "transform", watched)
    paths = [folder / "train" / name for name in PICTURES]
    assert all(one.error is None for one in trainer.predict(checkpoint, paths))
    return np.concatenate(seen)


def in_the_worker(checkpoint: Path) -> NDArray[np.uint8]:
    model = load_model(checkpoint, "job")
    inputs = []
    for name, data in PICTURES.items():
        content_type = b"image/jpeg" if name.endswith("jpg") else b"image/png"
        record = ConsumerRecord(
            "images", 0, 0, 0, 0, None, data, None, 0, len(data), [("content-type", content_type)]
        )
        (image,) = decode(record, LIMITS)
        inputs.append(model.to_input(image.pixels))
    return np.stack(inputs)


def in_export(folder: Path, checkpoint: Path) -> NDArray[np.uint8]:
    words = tuple(str(folder / "train" / name) for name in PICTURES)
    return pixels_of_files(trainer.load_checkpoint(checkpoint), words).numpy()


def test_training_predicting_exporting_and_serving_see_the_same_pixels(
    trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grey, colour, alpha, palette, 16 bits, CMYK, turned, of five sizes: equal bit for bit."""
    folder, checkpoint = trained
    expected = in_training(folder, checkpoint)
    assert len(expected) == len(PICTURES)
    assert len({image.tobytes() for image in expected}) > len(PICTURES) // 2
    ways = {
        "predict": in_predict(folder, checkpoint, monkeypatch),
        "export": in_export(folder, checkpoint),
        "worker": in_the_worker(checkpoint),
    }
    for way, actual in ways.items():
        for name, one, other in zip(PICTURES, actual, expected, strict=True):
            assert np.array_equal(one, other), (way, name)
