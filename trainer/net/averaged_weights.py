"""The moving average of the weights, which often tests better than the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["Ema"]


class Ema:
    """The exponential moving average of a model's weights, updated after every optimiser step.

    The decay grows with the number of steps, `min(decay, (1 + n) / (10 + n))`, so that the random
    weights of the start are soon forgotten (as in TensorFlow's ExponentialMovingAverage). Integers,
    which are BatchNorm's counts, are copied.

    Args:
        model: The model whose weights are averaged.
        optim: The optimiser that trains it.
        decay: The share of the old average that each step keeps, below 1.
    """

    def __init__(self, model: nn.Module, optim: Optimizer, decay: float) -> None:
        self._model = model
        self._decay = decay
        self._steps = 0
        self._average = {name: one.clone() for name, one in model.state_dict().items()}
        self._hook = optim.register_step_post_hook(self._after_step)

    def close(self) -> None:
        """Remove the hook from the optimiser."""
        self._hook.remove()

    @torch.no_grad()
    def _after_step(self, *_: Any) -> None:
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for name, current in self._model.state_dict().items():
            average = self._average[name]
            if average.is_floating_point():
                average.lerp_(current, 1 - decay)
            else:
                average.copy_(current)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Let the model have the averaged weights while the context lasts."""
        own = {name: one.clone() for name, one in self._model.state_dict().items()}
        self._model.load_state_dict(self._average)
        try:
            yield
        finally:
            self._model.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        """Return the state, for a checkpoint."""
        return {"steps": self._steps, "weights": self._average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._steps = state["steps"]
        weights: dict[str, Tensor] = state["weights"]
        for name, average in self._average.items():
            average.copy_(weights[name])
