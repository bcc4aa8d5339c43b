"""Exporting a checkpoint: what is written runs without the trainer and says the same."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from trainer import Checkpoint, TrainerError, export, fit, load_checkpoint
from trainer.checkpoints.export import EXTRA_FILE
from trainer.data.splits import open_split


@pytest.fixture(scope="module")
def trained(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    net = [
        {
            "class": "torch.nn.Conv2d",
            "kwargs": {"in_channels": 1, "out_channels": 8, "kernel_size": 5, "stride": 2},
        },
        {"class": "torch.nn.BatchNorm2d", "kwargs": {"num_features": 8}},
        {"class": "torch.nn.ELU"},
    ]
    params = {"net_arch": net, "num_epochs": 1, "eval_freq": 1, "eval_batch_size": 100}
    params |= {"device": "cpu", "normalise_images": True, "batch_size": 64}
    result = fit(params, digits, tmp_path_factory.mktemp("logs"), should_stop=lambda: False)
    assert result.best is not None
    return load_checkpoint(result.best)


@pytest.fixture(scope="module")
def images(trained: Checkpoint, digits: Path) -> torch.Tensor:
    return open_split(trained.params, "test", digits).pixels(torch.arange(100))


def expected(checkpoint: Checkpoint, images: torch.Tensor) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        return np.asarray(checkpoint.classifier()(checkpoint.transform()(images)))


def test_an_onnx_file_takes_stored_images_and_knows_its_classes(
    trained: Checkpoint, images: torch.Tensor, tmp_path: Path
) -> None:
    """uint8 images, any number of them, in; probabilities out; class names in the metadata."""
    done = export(trained, tmp_path / "model.onnx", images)
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    for count in (1, 7, 100):
        (found,) = session.run(["probabilities"], {"images": images[:count].numpy()})
        assert found == pytest.approx(expected(trained, images[:count]), abs=1e-5)
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["class_names"]) == trained.class_names
    assert about["checkpoint_sha256"] == trained.sha256
    assert done.largest_difference < 1e-5
    assert session.get_inputs()[0].shape == ["batch", 28, 28, 1]


def test_a_pt2_file_runs_with_torch_alone(
    trained: Checkpoint, images: torch.Tensor, tmp_path: Path
) -> None:
    """torch.export.load reads it, takes any number of images, and finds the class names."""
    done = export(trained, tmp_path / "model.pt2", images)
    extra = {EXTRA_FILE: ""}
    module = torch.export.load(io.BytesIO(done.path.read_bytes()), extra_files=extra).module()
    for count in (1, 7, 100):
        found = module(images[:count]).detach().numpy()
        assert found == pytest.approx(expected(trained, images[:count]), abs=1e-5)
    assert json.loads(json.loads(extra[EXTRA_FILE])["class_names"]) == trained.class_names


def test_a_model_that_differs_is_not_written(
    trained: Checkpoint, images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the tolerance there is an error with the difference, and no file."""
    right = torch.export.load

    def off(data: io.BytesIO) -> Any:
        program = right(data)
        program.state_dict["classifier.head.bias"].data.add_(torch.arange(10))
        return program

    monkeypatch.setattr("torch.export.load", off)
    with pytest.raises(TrainerError, match=r"images get another label.*nothing was written"):
        export(trained, tmp_path / "model.pt2", images)
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_named(
    trained: Checkpoint, images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown ending names the known ones; without images or packages the remedy."""
    with pytest.raises(TrainerError, match=r"model\.bin: name the format.*\.onnx or \.pt2"):
        export(trained, tmp_path / "model.bin", images)
    with pytest.raises(TrainerError, match="give at least one"):
        export(trained, tmp_path / "model.pt2", images[:0])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TrainerError, match=r"pip install 'darkroom\[export\]'"):
        export(trained, tmp_path / "model.onnx", images)


def test_the_command_checks_on_the_test_images_or_on_those_given(
    trained: Checkpoint, digits: Path, tmp_path: Path, trainer: Any
) -> None:
    """`export` says how many images it was tried on; a bad image is an error."""
    done = trainer("export", trained.path, "-o", "model.pt2", "--data", digits)
    assert "the same labels on 100 images" in done.stdout, done.stderr
    bad = trainer("export", trained.path, digits / "test/info.csv", "-o", "other.pt2")
    assert (bad.returncode, "is not an image" in bad.stderr) == (3, True)
    assert not (tmp_path / "other.pt2").exists()
