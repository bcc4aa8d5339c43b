"""The figures of every epoch, one JSON object per line; a resumed run reads those before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.observers import EpochReport

__all__ = ["History"]

NAME = "history.jsonl"


class History:
    """`logdir/history.jsonl`: a line is added after each epoch, and a resumed run reads it again.

    Attributes:
        epochs: The figures so far, as in the file: `epoch`, `train_loss`, `test_loss` (None in
            epochs without an evaluation), `train_metrics`, `test_metrics`, `learning_rate`,
            `images_per_s`, `seconds`.
    """

    def __init__(self, logdir: Path) -> None:
        self.path = logdir / NAME
        self.epochs: list[dict[str, Any]] = []

    def start(self, first_epoch: int) -> None:
        """Keep the epochs that are done (none in a new run) and drop those that are done again.

        Raises:
            OSError: The file cannot be written.
        """
        self.epochs = [one for one in self._read() if one["epoch"] <= first_epoch]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(map(_line, self.epochs)), encoding="utf-8")

    def add(self, report: EpochReport) -> None:
        """Add an epoch.

        Raises:
            OSError: The file cannot be written; `epochs` has the epoch nevertheless.
        """
        names = (
            "epoch", "train_loss", "test_loss", "learning_rate", "images_per_s", "seconds",
        )  # fmt: skip
        epoch = {name: getattr(report, name) for name in names}
        epoch["train_metrics"] = dict(report.train_metrics)
        epoch["test_metrics"] = dict(report.test_metrics)
        self.epochs.append(epoch)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(epoch))

    def _read(self) -> list[dict[str, Any]]:
        """Return the epochs in the file; a last line that a kill has cut short is ignored."""
        if not self.path.exists():
            return []
        found = []
        for line in self.path.read_text("utf-8", "replace").splitlines():
            try:
                epoch = json.loads(line)
            except ValueError:
                continue
            if isinstance(epoch, dict) and isinstance(epoch.get("epoch"), int):
                found.append(epoch)
        return found


def _line(epoch: dict[str, Any]) -> str:
    return json.dumps(epoch, ensure_ascii=False) + "\n"
