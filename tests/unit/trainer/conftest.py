"""Fixtures of the trainer's tests: a small folder of real digits, and params that train it fast."""

from pathlib import Path
from typing import Any

import pytest

from worker.testing.digits import write_digits


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    datadir = tmp_path_factory.mktemp("digits") / "data"
    write_digits(datadir, 200, 100)
    return datadir


@pytest.fixture
def small() -> dict[str, Any]:
    """Params of a net that trains 200 digits in well under a second per epoch."""
    net = [
        {
            "class": "torch.nn.Conv2d",
            "kwargs": {"in_channels": 1, "out_channels": 8, "kernel_size": 5, "stride": 2},
        },
        {"class": "torch.nn.BatchNorm2d", "kwargs": {"num_features": 8}},
        {"class": "torch.nn.ELU"},
        {"class": "torch.nn.MaxPool2d", "kwargs": {"kernel_size": 2}},
    ]
    return {
        "net_arch": net,
        "num_epochs": 2,
        "batch_size": 32,
        "eval_batch_size": 100,
        "eval_freq": 1,
        "save_freq": 1,
        "flip_images": False,
        "device": "cpu",
    }
