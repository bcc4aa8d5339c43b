"""The default steps: cross-entropy on the logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.params import Params

StepResult = tuple[float, dict[str, float] | None]
TrainStep = Callable[..., StepResult]
TestStep = Callable[..., StepResult]


class ClassifierSteps:
    """Trains and tests a module that returns logits; the metrics are computed once an epoch."""

    def __init__(self, params: Params) -> None:
        self._loss = nn.CrossEntropyLoss()

    def train_step(
        self, x: Tensor, y: Tensor, model: nn.Module, optim: Optimizer, **kwargs: Any
    ) -> StepResult:
        """Take one step; `x` is `(n, c, h, w)`, `y` is `(n,)`; return the loss and no metrics."""
        optim.zero_grad()
        logits = model(x)
        loss = self._loss(logits, y)
        loss.backward()
        optim.step()
        kwargs["train_torchmetrics"].update(logits.detach(), y)
        return loss.item(), None

    def test_step(self, x: Tensor, y: Tensor, model: nn.Module, **kwargs: Any) -> StepResult:
        """Return the loss of a batch and no metrics."""
        logits = model(x)
        kwargs["test_torchmetrics"].update(logits, y)
        return self._loss(logits, y).item(), None
