"""A user's own steps as they are usually written, and an epoch that calls them by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torchmetrics
from torch import Tensor, nn

from trainer import Params

Batches = Iterable[tuple[Tensor, Tensor]]


def collection(params: Params) -> torchmetrics.MetricCollection:
    """Return the usual metrics: macro accuracy, precision, recall and F1."""
    kinds: tuple[Any, ...] = (
        torchmetrics.Accuracy, torchmetrics.Precision, torchmetrics.Recall, torchmetrics.F1Score,
    )  # fmt: skip
    said = {"task": "multiclass", "num_classes": params.n_classes, "average": "macro"}
    return torchmetrics.MetricCollection([kind(**said) for kind in kinds])


def train_step(x: Tensor, y: Tensor, model: nn.Module, optim: Any, **kwargs: Any) -> Any:
    """Take a step as users write it: loss and metrics are floats at every step."""
    optim.zero_grad()
    y_pred = model(x)
    loss = loss_func(y_pred, y)
    loss.backward()  # type: ignore[no-untyped-call]
    optim.step()
    metrics = kwargs["train_torchmetrics"](y_pred, y)
    return loss.item(), {name: value.item() for name, value in metrics.items()}


def test_step(x: Tensor, y: Tensor, model: nn.Module, **kwargs: Any) -> Any:
    """Test a batch as users write it: the metrics are computed once per epoch."""
    y_pred = model(x)
    kwargs["test_torchmetrics"].update(y_pred, y)
    return loss_func(y_pred, y).item(), None


def loss_func(probabilities: Tensor, y: Tensor) -> Tensor:
    """Return the cross-entropy of probabilities, the classifier's output."""
    return nn.functional.nll_loss((probabilities + 1e-7).log(), y)


def epoch(
    model: nn.Module, optim: Any, train: Batches, test: Batches, metrics: dict[str, Any]
) -> None:
    """Train and evaluate; `metrics` are the collections that the steps get."""
    model.train()
    for x, y in train:
        train_step(x, y, model, optim, **metrics)
    model.eval()
    with torch.no_grad():
        for x, y in test:
            test_step(x, y, model, **metrics)
    for one in metrics.values():
        one.compute()
        one.reset()


def collections(params: Params) -> dict[str, Any]:
    """Return the metrics of training and of testing, as keyword arguments of the steps."""
    return {name: collection(params) for name in ("train_torchmetrics", "test_torchmetrics")}
