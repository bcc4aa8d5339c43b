"""Metrics of a classifier, in plain torch: importing torchmetrics would take longer than an epoch.

The figures are torchmetrics' own, which the tests hold them to; macro averages leave out classes
that occur neither among the labels nor among the predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trainer.components import Metric

CALIBRATION_BINS = 15


def summary(confusion: Tensor) -> dict[str, float]:
    """Return accuracy and macro precision, recall and F1.

    Args:
        confusion: int64, `(n_classes, n_classes)`, rows are the true classes.
    """
    counts = confusion.double()
    right = counts.diagonal()
    predicted, true = counts.sum(0), counts.sum(1)
    occurs = (predicted + true) > 0
    precision, recall = _ratio(right, predicted), _ratio(right, true)
    f1 = _ratio(2 * right, predicted + true)
    macro = {
        name: values[occurs].mean().item() if occurs.any() else 0.0
        for name, values in (("precision", precision), ("recall", recall), ("f1", f1))
    }
    return {"accuracy": _ratio(right.sum(), counts.sum()).item(), **macro}


def per_class(confusion: Tensor) -> list[dict[str, float]]:
    """Return precision, recall, F1 and the number of images of each class."""
    counts = confusion.double()
    right, predicted, true = counts.diagonal(), counts.sum(0), counts.sum(1)
    columns = {
        "precision": _ratio(right, predicted),
        "recall": _ratio(right, true),
        "f1": _ratio(2 * right, predicted + true),
        "images": true,
    }
    return [
        {name: column[index].item() for name, column in columns.items()}
        for index in range(len(counts))
    ]


def auroc(probabilities: Tensor, y: Tensor) -> float:
    """Return the macro one-against-the-rest area under the ROC curve.

    It is the Mann-Whitney statistic: the share of (positive, negative) pairs in the right order,
    ties counted half. Classes without positives or without negatives are left out.
    """
    areas = []
    for index in range(probabilities.shape[1]):
        positive = y == index
        n_positive, n_negative = int(positive.sum()), int((~positive).sum())
        if not n_positive or not n_negative:
            continue
        ranks = _ranks(probabilities[:, index].double())
        above = ranks[positive].sum() - n_positive * (n_positive + 1) / 2
        areas.append(above.item() / (n_positive * n_negative))
    return sum(areas) / len(areas) if areas else 0.0


def calibration_error(probabilities: Tensor, y: Tensor, bins: int = CALIBRATION_BINS) -> float:
    """Return the expected calibration error: mean |confidence - accuracy| over bins, weighted."""
    confidence, predicted = probabilities.double().max(1)
    right = (predicted == y).double()
    which = (confidence * bins).ceil().clamp(1, bins).long() - 1
    gap = torch.zeros(bins, dtype=torch.float64).index_add(0, which, confidence - right)
    return (gap.abs().sum() / max(len(y), 1)).item()


def confusion_matrix(probabilities: Tensor, y: Tensor) -> Tensor:
    """Return how often each class was taken for each: int64 `(n_classes, n_classes)`, rows true."""
    meter = ConfusionMeter(probabilities.shape[1])
    meter.update(probabilities, y)
    return meter.confusion


def confident_mistakes(probabilities: Tensor, y: Tensor, most: int) -> Tensor:
    """Return the rows with a wrong prediction, at most so many, the most confident first."""
    confidence, predicted = probabilities.max(1)
    wrong = (predicted != y).nonzero().flatten()
    return wrong[confidence[wrong].argsort(descending=True, stable=True)[:most]]


class ConfusionMeter:
    """Counts what is predicted for what, and gives the metrics that follow from the counts."""

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
        """Forget everything."""
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
        """Put back what `state_dict` returned."""
        self.confusion = state["confusion"].clone()


class ScoreMeter(ConfusionMeter):
    """Keeps every image's probabilities besides, for the area under ROC and the calibration."""

    BUILT_IN = ("loss", "accuracy", "precision", "recall", "f1", "auroc", "calibration_error")

    def __init__(self, n_classes: int, more: Sequence[Metric] = ()) -> None:
        self._more = more
        super().__init__(n_classes)

    @property
    def names(self) -> tuple[str, ...]:
        """What `compute` gives, and the loss."""
        return (*self.BUILT_IN, *(metric.title for metric in self._more))

    def update(self, scores: Tensor, y: Tensor) -> None:
        """Add a batch: logits `(n, n_classes)` and labels `(n,)`."""
        super().update(scores, y)
        self._probabilities.append(scores.float().softmax(1).cpu())
        self._labels.append(y.cpu())

    def compute(self) -> dict[str, float]:
        """Return what `ConfusionMeter` returns, `auroc`, `calibration_error`, and the more."""
        probabilities, y = self.scores()
        more = {"auroc": auroc(probabilities, y)}
        more["calibration_error"] = calibration_error(probabilities, y)
        for metric in self._more:
            more[metric.title] = float(metric.of_classes(self.n_classes)(probabilities, y))
        return {**super().compute(), **more}

    def reset(self) -> None:
        """Forget everything."""
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
        """Put back what `state_dict` returned."""
        super().load_state_dict(state)
        self._probabilities, self._labels = [state["probabilities"]], [state["labels"]]

    def scores(self) -> tuple[Tensor, Tensor]:
        """Return probabilities `(n, n_classes)` and labels `(n,)` in the order they came in."""
        if not self._labels:
            return torch.zeros((0, self.n_classes)), torch.zeros(0, dtype=torch.int64)
        return torch.cat(self._probabilities), torch.cat(self._labels)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole.clamp(min=1), torch.zeros_like(part))


def _ranks(values: Tensor) -> Tensor:
    """Return ranks from 1, equal values sharing the mean of theirs."""
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last: Tensor = counts.cumsum(0).double()
    ranks: Tensor = (last - (counts - 1) / 2)[inverse]
    return ranks
