"""A checkpoint is whole or refused, and reading one never runs code."""

import hashlib
import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer import CheckpointError, Params, build_classifier, fit, load_checkpoint
from trainer.checkpoints.checkpoint import TRAILER, write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    params = {"net_arch": [], "num_epochs": 1, "eval_batch_size": 100, "device": "cpu"}
    result = fit(params, digits, tmp_path_factory.mktemp("logs"))
    assert result.last is not None
    return result.last


def sealed(content: Any, path: Path) -> Path:
    """Write anything as if it were a checkpoint, with a sha256 that is right."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getvalue()
    path.write_bytes(data + TRAILER + hashlib.sha256(data).hexdigest().encode())
    return path


def test_a_checkpoint_has_everything_to_serve(checkpoint: Path) -> None:
    """Classifier, transform, class names, metrics, versions and the file's own sha256."""
    loaded = load_checkpoint(checkpoint)
    assert hashlib.sha256(checkpoint.read_bytes()).hexdigest() == loaded.sha256
    assert [str(index) for index in range(10)] == loaded.class_names
    assert {"torch", "python", "darkroom"} <= set(loaded.versions)
    assert {"loss", "accuracy"} <= set(loaded.metrics)
    images = torch.zeros(3, 28, 28, 1, dtype=torch.uint8)
    x = loaded.transform()(images)
    probabilities = loaded.classifier()(x)
    assert torch.allclose(torch.ones(3), probabilities.sum(1))
    assert torch.allclose(probabilities, loaded.logits_classifier()(x).softmax(1))
    assert not loaded.classifier().training


def test_torch_itself_can_read_a_checkpoint(checkpoint: Path) -> None:
    """The file is an ordinary torch file for those who want the weights alone."""
    assert "model" in torch.load(checkpoint, weights_only=True)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 0.9999])
def test_a_checkpoint_cut_short_is_refused(checkpoint: Path, tmp_path: Path, share: float) -> None:
    """Wherever it was cut, the error says that it is not whole."""
    data = checkpoint.read_bytes()
    path = tmp_path / "cut.pt"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match="cut short"):
        load_checkpoint(path)


def test_a_checkpoint_with_a_flipped_bit_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """One changed byte gives another sha256."""
    data = bytearray(checkpoint.read_bytes())
    data[len(data) // 2] ^= 1
    path = tmp_path / "flipped.pt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="is damaged: its sha256 is"):
        load_checkpoint(path)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickled_code_is_refused_and_not_run(tmp_path: Path) -> None:
    """A file with a right sha256 that carries code is refused before the code runs."""
    victim = tmp_path / "victim"
    path = sealed({"format": 1, "model": Bomb(victim)}, tmp_path / "bomb.pt")
    with pytest.raises(CheckpointError, match="may be code; refused"):
        load_checkpoint(path)
    data = pickle.dumps(Bomb(victim))
    path.write_bytes(data + TRAILER + hashlib.sha256(data).hexdigest().encode())
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert not victim.exists()


@pytest.mark.parametrize(
    "content", [{}, [], {"format": 1}, {"format": 99}, {"format": 1, "params": {"x": 1}}]
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: Any) -> None:
    """Other torch files, old formats and half contents get an error with their path."""
    path = sealed(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt"):
        load_checkpoint(path)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    """The error names the path that is not there."""
    with pytest.raises(CheckpointError, match=r"none\.pt cannot be read: No such file"):
        load_checkpoint(tmp_path / "none.pt")


def test_weights_of_another_net_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    """Params and weights that do not belong together are an error, not a half-loaded model."""
    content = load_checkpoint(checkpoint).content
    content["model"] = {"head.weight": torch.zeros(10, 3)}
    path = sealed(content, tmp_path / "mixed.pt")
    with pytest.raises(CheckpointError, match="weights that do not fit its params"):
        load_checkpoint(path).classifier()


def test_how_it_was_trained_is_not_needed_to_use_it(checkpoint: Path, tmp_path: Path) -> None:
    """A schedule or an optimiser that only the training program knows does not matter any more."""
    content = load_checkpoint(checkpoint).content
    schedule = {"class": "torch.optim.lr_scheduler.LambdaLR", "kwargs": {"lr_lambda": "<lambda>"}}
    content["params"]["learning_rate_schedule"] = [schedule]
    content["params"]["optim_class"] = "lab.optim.Own"
    loaded = load_checkpoint(sealed(content, tmp_path / "own.pt"))
    assert loaded.classifier()(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


def test_a_checkpoint_is_ready_without_torchs_compiler(checkpoint: Path, tmp_path: Path) -> None:
    """Importing torch._dynamo would keep a worker that starts from its first images for seconds."""
    content = load_checkpoint(checkpoint).content
    params = {"device": "cpu"}  # the usual net
    content["params"] = Params.validate_all(params).as_json()
    content["model"] = build_classifier(params).state_dict()
    path = sealed(content, tmp_path / "usual.pt")
    program = (
        "import sys, torch, trainer; "
        f"classify = trainer.load_checkpoint({str(path)!r}).fast_classifier(); "
        "print(classify(torch.zeros(2, 1, 28, 28)).shape, 'torch._dynamo' in sys.modules)"
    )
    said = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert said == "torch.Size([2, 10]) False\n"


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    """When writing fails in the middle, the old checkpoint is still there and nothing else."""
    path = tmp_path / "epoch.pt"
    write_checkpoint(path, {"a": 1})
    before = path.read_bytes()
    with pytest.raises(AttributeError):
        write_checkpoint(path, {"a": lambda: 1})
    path.with_name("folder.pt").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_checkpoint(path.with_name("folder.pt"), {"a": 2})
    assert before == path.read_bytes()
    assert {"epoch.pt", "folder.pt"} == {one.name for one in tmp_path.iterdir()}
