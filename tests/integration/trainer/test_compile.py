"""`compile`: the net is compiled and trains as without; a missing compiler is named."""

import json
from pathlib import Path

import pytest

from tests.integration.trainer.conftest import Run

OPTIONS = ("--set", "net_arch=[]", "--set", "num_epochs=3", "--set", "eval_freq=3")
OPTIONS += ("--set", "batch_size=100", "--set", "eval_batch_size=100", "--set", "device=cpu")
OPTIONS += ("--set", "precision=float32", "--set", "flip_images=false")


def test_a_compiled_net_trains_as_the_plain_one(
    program: Run, digits: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Inductor makes machine code for it, and the losses are the same within rounding."""
    environment["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path / "compiled")
    environment["TORCHINDUCTOR_VEC_ISA_OK"] = "0"  # plain C++: trying out AVX takes half the time
    losses = {}
    for word in ("false", "true"):
        done = program(
            "train", "--data", digits, "--logdir", word, *OPTIONS, "--set", f"compile={word}"
        )
        assert done.returncode == 0, done.stderr
        assert any((tmp_path / "compiled").rglob("*.so")) == (word == "true")
        lines = (tmp_path / word / "history.jsonl").read_text().splitlines()
        losses[word] = [json.loads(line)["train_loss"] for line in lines]
    assert losses["true"] == pytest.approx(losses["false"], rel=1e-4)
    assert losses["true"][2] < 0.9 * losses["true"][0]


def test_without_a_compiler_compile_is_a_wrong_param(
    program: Run, digits: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """One message before the first step names the key and what to install."""
    environment["PATH"] = str(tmp_path)
    environment.pop("CXX", None)
    done = program("train", "--data", digits, *OPTIONS, "--set", "compile=true")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "compile: torch.compile needs a C++ compiler" in done.stderr
    assert "install g++" in done.stderr
    assert not (tmp_path / "logs").exists()
