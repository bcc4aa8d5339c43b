"""Figures of an epoch: the means of what the steps return, and the metrics that they update."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from trainer.machine.distributed import Group

__all__ = ["Averages", "EpochMetric", "as_floats"]


class Averages:
    """Means over the images of an epoch: of the loss, and of each metric that the steps return."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start from zero."""
        self.images = 0
        self._sums: dict[str, float] = {}
        self._weights: dict[str, int] = {}

    def add(self, images: int, loss: float, metrics: Mapping[str, Any] | None) -> None:
        """Add what a step returned for a number of images; the loss and metrics are means."""
        self.images += images
        for name, value in {**(metrics or {}), "loss": loss}.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value) * images
            self._weights[name] = self._weights.get(name, 0) + images

    def of_all(self, group: Group) -> Averages:
        """Return the averages of all processes together."""
        if group.size == 1:
            return self
        together = Averages()
        for state in group.gather(self.state_dict()):
            together.absorb(state)
        return together

    def means(self) -> dict[str, float]:
        """Return the means by name, and `loss`, which is NaN when all steps were skipped."""
        means = {name: total / self._weights[name] for name, total in self._sums.items()}
        return means or {"loss": math.nan}

    def absorb(self, state: Mapping[str, Any]) -> None:
        """Add what another process has counted."""
        self.images += state["images"]
        for name, total in state["sums"].items():
            self._sums[name] = self._sums.get(name, 0.0) + total
            self._weights[name] = self._weights.get(name, 0) + state["weights"][name]

    def state_dict(self) -> dict[str, Any]:
        """Return the state, for a checkpoint."""
        return {"images": self.images, "sums": dict(self._sums), "weights": dict(self._weights)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.images = state["images"]
        self._sums, self._weights = dict(state["sums"]), dict(state["weights"])


class EpochMetric:
    """The `train_torchmetrics` or `test_torchmetrics` among the steps' keyword arguments.

    Args:
        metrics: A torchmetrics metric or collection, or any object with `compute` and `reset`.
            Anything else, such as None, counts as no metric.
    """

    def __init__(self, metrics: Any) -> None:
        self.metrics: Any = metrics if hasattr(metrics, "compute") else None
        if self.metrics is not None and hasattr(self.metrics, "persistent"):
            self.metrics.persistent(mode=True)  # so that state_dict holds the counts

    @property
    def is_filled(self) -> bool:
        """Whether a step has updated it since the last reset."""
        if self.metrics is None:
            return False
        members = self.metrics.values() if hasattr(self.metrics, "values") else [self.metrics]
        return any(bool(getattr(member, "update_called", True)) for member in members)

    def compute(self, group: Group) -> dict[str, float]:
        """Return the figures as floats by name; a value per class has a name per class.

        With several processes the figures are of all images; torchmetrics gathers them by itself.
        """
        if group.size > 1 and hasattr(self.metrics, "absorb"):
            for rank, state in enumerate(group.gather(self.metrics.state_dict())):
                if rank != group.rank:
                    self.metrics.absorb(state)
        return as_floats(self.metrics.compute()) if self.metrics is not None else {}

    def scores(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the probabilities and labels since the last reset, where the metric keeps them.

        Returns:
            `(n, n_classes)` and `(n,)`. With several processes: in rank 0, after `compute`, of all
            images, those of rank 0 first.
        """
        return self.metrics.scores() if hasattr(self.metrics, "scores") else None

    def reset(self) -> None:
        """Start a new epoch."""
        if self.metrics is not None:
            self.metrics.reset()

    def state_dict(self) -> dict[str, Any]:
        """Return the state, for a checkpoint in the middle of an epoch."""
        return dict(self.metrics.state_dict()) if hasattr(self.metrics, "state_dict") else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        if state and self.metrics is not None:
            self.metrics.load_state_dict(state)


def as_floats(values: Any, name: str = "metric") -> dict[str, float]:
    """Flatten metric values into floats by name."""
    if isinstance(values, Mapping):
        return {
            key: one for sub, value in values.items() for key, one in as_floats(value, sub).items()
        }
    if isinstance(values, torch.Tensor) and values.numel() != 1:
        return {f"{name}/{index}": float(one) for index, one in enumerate(values.flatten())}
    return {name: float(values)}
