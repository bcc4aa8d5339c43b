"""Every error of a training or an evaluation becomes an outcome that a person can act on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from tests.job_room import PARAMS
from worker.training.jobs.job import Job
from worker.training.process.channel import Channel
from worker.training.process.messages import Task
from worker.training.process.work import perform


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def channel() -> Iterator[Channel]:
    here, there = socket.socketpair()
    with here, there:
        yield Channel(there)


def task(folder: Path, params: dict[str, Any] = PARAMS, **fields: Any) -> Task:
    return Task(Job(name="a", params=params, **fields), folder / "logs", folder / "data", threads=1)


def write_images(datadir: Path) -> None:
    """Write one black image per class into each split."""
    for kind in ("train", "test"):
        (datadir / kind).mkdir(parents=True)
        for label in range(10):
            cv2.imwrite(str(datadir / kind / f"{label}.png"), np.zeros((28, 28), np.uint8))
        rows = [f"{label}.png,{label}" for label in range(10)]
        (datadir / kind / "info.csv").write_text("\n".join(["files,type", *rows]) + "\n")


def test_too_large_a_net_is_too_little_memory(channel: Channel, tmp_path: Path) -> None:
    """A net that does not fit into memory fails with a remedy, not with a traceback."""
    giant = {
        "class": "torch.nn.Conv2d",
        "kwargs": {"in_channels": 1, "out_channels": 10**10, "kernel_size": 28},
    }
    write_images(tmp_path / "data")
    outcome = perform(task(tmp_path, PARAMS | {"net_arch": [giant]}), channel)

    assert outcome.status == "failed"
    assert outcome.trace is None
    assert "not enough memory" in str(outcome.reason)
    assert "smaller" in str(outcome.reason)


def test_too_large_a_batch_is_too_little_memory(
    channel: Channel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that runs out in the middle of a training is told from an error of the program."""
    monkeypatch.setattr("trainer.fit", lambda *_, **__: torch.empty(10**15))
    outcome = perform(task(tmp_path), channel)

    assert outcome.trace is None
    assert "not enough memory; take a smaller batch_size" in str(outcome.reason)


def test_bad_data_is_named(channel: Channel, tmp_path: Path) -> None:
    """What the trainer finds wrong with the images is the reason."""
    outcome = perform(task(tmp_path), channel)

    assert (outcome.status, outcome.trace) == ("failed", None)
    assert str(tmp_path / "data" / "train") in str(outcome.reason)


def test_an_evaluation_of_nothing_names_the_checkpoint(channel: Channel, tmp_path: Path) -> None:
    """A checkpoint that is not there is named."""
    missing = task(tmp_path, {}, kind="evaluation", checkpoint="a/checkpoints/best.pt")
    outcome = perform(missing, channel)

    assert outcome.status == "failed"
    assert "a/checkpoints/best.pt" in str(outcome.reason)


def test_an_error_of_the_program_keeps_its_traceback(
    channel: Channel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody foresaw is described in one line, with its traceback for the log."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("split\nby zero")

    monkeypatch.setattr("trainer.fit", broken)
    outcome = perform(task(tmp_path), channel)

    assert outcome.reason == "ZeroDivisionError: split by zero"
    assert "in broken" in str(outcome.trace)
