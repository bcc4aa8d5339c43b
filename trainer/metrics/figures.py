"""Metrics of a classifier, in plain torch: importing torchmetrics would take longer than an epoch.

The tests compare the figures with torchmetrics'. Macro averages leave out classes that occur
neither among the labels nor among the predictions.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["auroc", "calibration_error", "confident_mistakes", "per_class", "summary"]

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
    """Return the area under the ROC curve, one class against the rest, averaged over classes.

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


def confident_mistakes(probabilities: Tensor, y: Tensor, most: int) -> Tensor:
    """Return the rows with a wrong prediction, the most confident first, and at most `most`."""
    confidence, predicted = probabilities.max(1)
    wrong = (predicted != y).nonzero().flatten()
    return wrong[confidence[wrong].argsort(descending=True, stable=True)[:most]]


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole.clamp(min=1), torch.zeros_like(part))


def _ranks(values: Tensor) -> Tensor:
    """Return ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last: Tensor = counts.cumsum(0).double()
    ranks: Tensor = (last - (counts - 1) / 2)[inverse]
    return ranks
