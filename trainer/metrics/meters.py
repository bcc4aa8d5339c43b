"""Meters: they count predictions batch by batch, and compute the figures from the counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trainer.metrics.figures import auroc, calibration_error, summary
from trainer.params.components import Metric

__all__ = ["ConfusionMeter", "ScoreMeter", "confusion_matrix"]


def confusion_matrix(probabilities: Tensor, y: Tensor) -> Tensor:
    """Count predictions by true class: int64 `(n_classes, n_classes)`, rows are true classes."""
    meter = ConfusionMeter(probabilities.shape[1])
    meter.update(probabilities, y)
    return meter.confusion


class ConfusionMeter:
    """Counts which class is predicted for which, and computes metrics from the counts."""

    def __init__(self, n_classes: int) -> None:
        self.n_classes = n_classes
        self.reset()

    def update(self, scores: Tensor, y: Tensor) -> None:
        """Add a batch: scores (logits or probabilities) `(n, n_classes)` and labels `(n,)`."""
        places = y * self.n_classes + scores.argmax(1)
        counts = torch.bincount(places, minlength=self.n_classes**2)
        self.confusion += counts.view(self.n_classes, -1).cpu()

    def compute(self) -> dict[str, float]:
        """Return accuracy, macro precision, recall and F1 of all since the last reset."""
        return summary(self.confusion)

    def reset(self) -> None:
        """Start from zero."""
        self.confusion = torch.zeros((self.n_classes, self.n_classes), dtype=torch.int64)

    @property
    def update_called(self) -> bool:
        """Whether anything was added since the last reset."""
        return bool(self.confusion.any())

    def absorb(self, state: dict[str, Any]) -> None:
        """Add what another process has counted."""
        self.confusion += state["confusion"]

    def state_dict(self) -> dict[str, Any]:
        """Return the state, for a checkpoint."""
        return {"confusion": self.confusion.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.confusion = state["confusion"].clone()


class ScoreMeter(ConfusionMeter):
    """Keeps the probabilities of every image too, for the area under ROC and the calibration."""

    BUILT_IN = ("loss", "accuracy", "precision", "recall", "f1", "auroc", "calibration_error")

    def __init__(self, n_classes: int, further: Sequence[Metric] = ()) -> None:
        self._further = further
        super().__init__(n_classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the figures that `compute` returns, and `loss`."""
        return (*self.BUILT_IN, *(metric.title for metric in self._further))

    def update(self, scores: Tensor, y: Tensor) -> None:
        """Add a batch: logits `(n, n_classes)` and labels `(n,)`."""
        super().update(scores, y)
        self._probabilities.append(scores.float().softmax(1).cpu())
        self._labels.append(y.cpu())

    def compute(self) -> dict[str, float]:
        """Return `ConfusionMeter`'s figures, `auroc`, `calibration_error`, and further metrics."""
        probabilities, y = self.scores()
        more = {"auroc": auroc(probabilities, y)}
        more["calibration_error"] = calibration_error(probabilities, y)
        for metric in self._further:
            more[metric.title] = float(metric.build_for(self.n_classes)(probabilities, y))
        return {**super().compute(), **more}

    def reset(self) -> None:
        """Start from zero."""
        super().reset()
        self._probabilities: list[Tensor] = []
        self._labels: list[Tensor] = []

    def absorb(self, state: dict[str, Any]) -> None:
        """Add what another process has counted."""
        super().absorb(state)
        self._probabilities.append(state["probabilities"])
        self._labels.append(state["labels"])

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        probabilities, labels = self.scores()
        return {**super().state_dict(), "probabilities": probabilities, "labels": labels}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self._probabilities, self._labels = [state["probabilities"]], [state["labels"]]

    def scores(self) -> tuple[Tensor, Tensor]:
        """Return probabilities `(n, n_classes)` and labels `(n,)` in the order they came in."""
        if not self._labels:
            return torch.zeros((0, self.n_classes)), torch.zeros(0, dtype=torch.int64)
        return torch.cat(self._probabilities), torch.cat(self._labels)
