"""What a training process tells its worker."""

from pathlib import Path
from typing import Any

import orjson
import torch

import trainer
from trainer import observers
from worker.training.reporter import Reporter


def test_an_epoch_is_told_as_plain_figures() -> None:
    """What each test image got, as tensors, stays in the training process."""
    told: list[dict[str, Any]] = []

    def send(name: str, **fields: Any) -> None:
        told.append({"name": name, **fields})

    report = trainer.EpochReport(
        epoch=1,
        num_epochs=2,
        train_loss=0.5,
        train_metrics={"accuracy": 0.9},
        test_loss=None,
        test_metrics={},
        learning_rate=0.1,
        images_per_s=100.0,
        seconds=1.0,
        test_outputs=observers.TestOutputs(
            torch.zeros(1, 2), torch.zeros(1), torch.zeros(1), ("a", "b")
        ),
    )
    Reporter(send, Path("logs")).on_epoch(report)
    (message,) = told
    assert message["name"] == "epoch"
    assert "tested" not in message
    assert orjson.loads(orjson.dumps(message)) == message
