"""The built-in steps: cross-entropy on the logits, with what training recipes add to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.net.precision import resolve_precision
from trainer.params.params import Params

__all__ = ["ClassifierSteps", "StepResult", "Steps", "TestStep", "TrainStep"]

StepResult = tuple[float, dict[str, float] | None]
"""The loss, and metrics by name; None where the metrics are computed once per epoch."""
TrainStep = Callable[..., StepResult]
TestStep = Callable[..., StepResult]


@dataclass(frozen=True)
class Steps:
    """The functions that train and test on a batch, and the keyword arguments that both get."""

    train: TrainStep
    test: TestStep
    kwargs: dict[str, Any]


class ClassifierSteps:
    """Trains and tests a module that returns logits; metrics are computed once per epoch.

    The test loss is the plain cross-entropy, so that runs can be compared whatever is added to
    their training loss.

    Args:
        params: Label smoothing, class weights, mixing and accumulation.
        labels: The training labels, int64 `(n,)`, for "balanced" class weights.
    """

    def __init__(self, params: Params, labels: Tensor) -> None:
        self._params = params
        weights = _class_weights(params, labels)
        self._loss = nn.CrossEntropyLoss(weights, label_smoothing=params.label_smoothing)
        self._loss.to(params.device)
        is_float16 = resolve_precision(params.precision, params.device) == "float16"
        self._scaler = torch.amp.GradScaler(torch.device(params.device).type, enabled=is_float16)

    def train_step(
        self, x: Tensor, y: Tensor, model: nn.Module, optim: Optimizer, **kwargs: Any
    ) -> StepResult:
        """Take a step with images `(n, c, h, w)` and labels `(n,)`; return the loss, no metrics."""
        optim.zero_grad()
        x, other, share = self._mix(x, y)
        parts = self._params.gradient_accumulation
        total = 0.0
        for part_x, part_y, part_other in zip(
            *(one.chunk(parts) for one in (x, y, other)), strict=True
        ):
            logits = model(part_x).float()
            loss = share * self._loss(logits, part_y)
            if share < 1:
                loss = loss + (1 - share) * self._loss(logits, part_other)
            weight = len(part_y) / len(y)
            self._scaler.scale(loss * weight).backward()
            total += loss.item() * weight
            kwargs["train_torchmetrics"].update(logits.detach(), part_y)
        if math.isfinite(total):
            self._scaler.step(optim)
            self._scaler.update()
        return total, None

    def test_step(self, x: Tensor, y: Tensor, model: nn.Module, **kwargs: Any) -> StepResult:
        """Return the loss of a batch and no metrics."""
        logits = model(x).float()
        kwargs["test_torchmetrics"].update(logits, y)
        return nn.functional.cross_entropy(logits, y).item(), None

    def _mix(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return images that are mixed in pairs, the partners' labels, and the own labels' share.

        Mixup (Zhang et al. 2018) adds two images, cutmix (Yun et al. 2019) pastes a rectangle of
        one into the other. When both are on, each batch gets one of them by chance.
        """
        alphas = [self._params.mixup_alpha, self._params.cutmix_alpha]
        on = [index for index, alpha in enumerate(alphas) if alpha > 0]
        if not on:
            return x, y, 1.0
        which = on[int(torch.randint(len(on), ()))]
        partner = torch.randperm(len(x)).to(x.device)
        share = _beta(alphas[which])
        if which == 0:
            return x.lerp(x[partner], 1 - share), y[partner], share
        top, bottom, left, right = _rectangle(x.shape[2], x.shape[3], 1 - share)
        x = x.clone()
        x[:, :, top:bottom, left:right] = x[partner, :, top:bottom, left:right]
        pasted = (bottom - top) * (right - left) / (x.shape[2] * x.shape[3])
        return x, y[partner], 1 - pasted


def _beta(alpha: float) -> float:
    """Draw from Beta(alpha, alpha) with torch's own random numbers."""
    first, second = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64))  # noqa: SLF001 - the only function that draws from torch's global state
    return float(first / (first + second)) if first + second > 0 else 0.5


def _rectangle(height: int, width: int, share: float) -> tuple[int, int, int, int]:
    """Draw a rectangle of about this share of an image, cut off at the edges of the image."""
    half_height, half_width = (int(side * math.sqrt(share) / 2) for side in (height, width))
    row, column = int(torch.randint(height, ())), int(torch.randint(width, ()))
    return (
        max(row - half_height, 0), min(row + half_height, height),
        max(column - half_width, 0), min(column + half_width, width),
    )  # fmt: skip


def _class_weights(params: Params, labels: Tensor) -> Tensor | None:
    if params.class_weights != "balanced":
        return None if params.class_weights is None else torch.tensor(params.class_weights)
    counts = torch.bincount(labels, minlength=params.n_classes)
    # As in scikit-learn: n / (classes * count); a class without images gets the weight 0.
    return torch.where(counts > 0, len(labels) / (params.n_classes * counts.clamp(min=1)), 0.0)
