"""A checkpoint that serves answers as it was trained, only faster."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import trainer
from worker.images import model as model_module
from worker.images.model import Model, load_model
from worker.testing.digits import read_digits, write_digits


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of real digits that is far from sure of itself."""
    folder = tmp_path_factory.mktemp("model")
    write_digits(folder / "data", 1000, 500)
    params = {"num_epochs": 2, "batch_size": 100, "eval_freq": 2, "save_freq": 2}
    result = trainer.fit(params, folder / "data", folder / "logs")
    assert result.best is not None
    return result.best


@pytest.fixture(scope="module")
def digits() -> NDArray[np.uint8]:
    return read_digits()[0].reshape(-1, 28, 28)


def in_float32(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    loaded = trainer.load_checkpoint(path)
    with torch.inference_mode():
        x = loaded.transform()(torch.from_numpy(images[..., None]))
        scores: NDArray[np.float32] = loaded.classifier().eval()(x).numpy()
    return scores


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_what_is_served_agrees_with_the_checkpoint(
    checkpoint: Path, digits: NDArray[np.uint8], batch_size: int
) -> None:
    """The same label for at least 99.9 % of real images, probabilities within 0.02."""
    model = load_model(checkpoint, "job")
    images = digits[:: max(1, 5000 // (batch_size * 20))][: batch_size * 20]
    served = np.concatenate(
        [
            model.probabilities(images[i : i + batch_size, ..., None])
            for i in range(0, len(images), batch_size)
        ]
    )
    expected = in_float32(checkpoint, images)
    assert np.abs(served - expected).max() < 0.02
    assert (served.argmax(1) == expected.argmax(1)).mean() >= 0.999


def test_a_model_knows_its_name_and_classes(checkpoint: Path) -> None:
    """Every prediction tells which model made it."""
    model = load_model(checkpoint, "job")
    assert (model.id.job, model.id.epoch) == ("job", 2)
    assert model.id.sha256 == trainer.load_checkpoint(checkpoint).sha256
    assert model.class_names == [str(digit) for digit in range(10)]


def test_images_are_brought_to_the_models_form(checkpoint: Path) -> None:
    """Another size is resized, colour becomes grey."""
    model = load_model(checkpoint, "job")
    assert model.to_input(np.zeros((90, 50), np.uint8)).shape == (28, 28, 1)
    assert model.to_input(np.zeros((5, 9, 3), np.uint8)).shape == (28, 28, 1)


def test_a_models_form_is_described_for_people(checkpoint: Path) -> None:
    """Errors about deployments name classes, size and colour."""
    form = load_model(checkpoint, "job").form
    assert str(form) == "10 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9) of 28x28 grey images"


def test_a_model_that_gives_no_probabilities_is_refused(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that became NaN are noticed before anything is classified with them."""

    def broken(self: Model, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.full((len(batch), 10), np.nan, np.float32)

    monkeypatch.setattr(model_module.Model, "probabilities", broken)
    with pytest.raises(trainer.CheckpointError, match="not probabilities"):
        load_model(checkpoint, "job")


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    """The error has the file's name."""
    with pytest.raises(trainer.CheckpointError, match=r"none\.pt"):
        load_model(tmp_path / "none.pt", "job")
