"""Several processes give the weights of one, and a killed one resumes to the same weights."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.integration.trainer.conftest import ROOT, Run
from trainer import load_checkpoint
from worker.testing.programs.processes import free_port

# 600 images in batches of 35: the last batch has 5, which two processes share unevenly.
WORDS = (
    "--set", "num_epochs=2", "--set", "eval_freq=1", "--set", "save_freq=1", "--set",
    "eval_batch_size=20", "--set", "batch_size=35", "--set", "device=cpu", "--set",
    "precision=float32", "--set", "learning_rate=0.02",
)  # fmt: skip
SMALL_NET = (
    'net_arch=[{"class":"torch.nn.Conv2d","kwargs":{"in_channels":1,"out_channels":8,'
    '"kernel_size":5,"stride":2}},{"class":"torch.nn.BatchNorm2d","kwargs":{"num_features":8}},'
    '{"class":"torch.nn.ELU"}]'
)


def torchrun(
    folder: Path, environment: dict[str, str], program: list[str], restarts: int = 0
) -> subprocess.CompletedProcess[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    launch += ["--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    launch += ["--max-restarts", str(restarts)]
    return subprocess.run(
        [*launch, *program],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.fixture(scope="module")
def alone(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log folder of a run of one process."""
    logdir = tmp_path_factory.mktemp("alone")
    words = ["train", "--data", str(digits), "--logdir", str(logdir), *WORDS, "--set", SMALL_NET]
    done = subprocess.run(
        [sys.executable, "-m", "trainer", *words], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return logdir


def weights(logdir: Path) -> dict[str, torch.Tensor]:
    content = load_checkpoint(logdir / "checkpoints" / "epoch-00002.pt").content
    found: dict[str, torch.Tensor] = content["model"]
    return found


def assert_alike(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name, expected in one.items():
        assert (expected.float() - other[name].float()).abs().max() < 2e-4, name


DYING = """
import os, signal, sys
from trainer import Observer
from trainer.cli import main
import trainer.machine.distributed as distributed

any_of = distributed.Group.any
polls = 0

def dying(self, flag):
    global polls
    polls += 1
    if polls == 25 and self.rank == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    return any_of(self, flag)

distributed.Group.any = dying
main()
"""


def test_one_process_killed_at_any_step_resumes_bit_for_bit(
    alone: Path,
    digits: Path,
    tmp_path: Path,
    environment: dict[str, str],
    trainer: Run,
) -> None:
    """Kill -9 in the second epoch, then --resume: exactly the weights as without a kill."""
    (tmp_path / "dying.py").write_text(DYING.replace("self.rank == 1", "True"))
    words = ["train", "--data", str(digits), "--logdir", "killed", *WORDS, "--set", SMALL_NET]
    died = subprocess.run(
        [sys.executable, "dying.py", *words],
        cwd=tmp_path,
        env={**environment, "TORCHELASTIC_RESTART_COUNT": "0"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert died.returncode == -9
    resumed = trainer(*words, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    for name, expected in weights(alone).items():
        assert torch.equal(expected, weights(tmp_path / "killed")[name]), name


def test_torchrun_starts_again_after_a_kill_and_ends_with_the_same_weights(
    alone: Path, digits: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Kill -9 of one of two in the second epoch: one restart, weights and metrics as of one."""
    (tmp_path / "dying.py").write_text(DYING)
    words = ["train", "--data", str(digits), "--logdir", "elastic", *WORDS, "--set", SMALL_NET]
    done = torchrun(tmp_path, environment, ["dying.py", *words], restarts=1)
    assert done.returncode == 0, done.stderr
    assert "exitcode: -9" in done.stderr
    assert "resumed from elastic/checkpoints/epoch-00001.pt" in done.stderr
    assert_alike(weights(alone), weights(tmp_path / "elastic"))
    one, two = (
        load_checkpoint(logdir / "checkpoints" / "epoch-00002.pt").metrics
        for logdir in (alone, tmp_path / "elastic")
    )
    assert two == pytest.approx(one, abs=2e-3)
    assert done.stdout.count("finished after epoch 2 of 2") == 1
