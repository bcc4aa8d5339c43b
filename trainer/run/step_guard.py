"""Checks before every optimiser step: gradients are clipped, and non-finite steps are skipped."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.errors import DivergedError

__all__ = ["StepGuard"]

logger = logging.getLogger(__name__)
NAMED_FILES = 10


class StepGuard:
    """Skips steps whose loss or gradient is not finite, and ends a run that has only such steps.

    It is a hook of the optimiser, so that it works for the user's own steps as well. A skipped step
    leaves weights, optimiser state and running statistics as they were.

    Args:
        model: The model whose buffers (BatchNorm's running statistics) are restored after a bad
            step.
        optim: The optimiser whose steps are checked.
        clip_norm: Longer gradients are scaled down to this norm; None: they stay as they are.
        most_in_a_row: Number of bad steps in a row that ends the run.

    Attributes:
        skipped: Number of skipped steps.
        in_a_row: Number of steps that were skipped since the last good one.
    """

    def __init__(
        self, model: nn.Module, optim: Optimizer, *, clip_norm: float | None, most_in_a_row: int
    ) -> None:
        self.skipped = 0
        self.in_a_row = 0
        self._clip_norm = clip_norm
        self._most_in_a_row = most_in_a_row
        self._buffers = [buffer for buffer in model.buffers() if buffer is not None]
        self._good_buffers = [buffer.clone() for buffer in self._buffers]
        self._gradient_is_bad = False
        self._hook = optim.register_step_pre_hook(self._before_step)

    def close(self) -> None:
        """Remove the hook from the optimiser."""
        self._hook.remove()

    def restart(self, skipped: int) -> None:
        """Go on from a checkpoint.

        Args:
            skipped: Number of steps that were skipped before it.
        """
        self.skipped = skipped
        _copy(self._buffers, self._good_buffers)

    def accept_step(self, loss: float) -> bool:
        """Return whether the step that was just taken is good; a bad one is undone.

        Args:
            loss: The loss that the step returned.
        """
        is_good = math.isfinite(loss) and not self._gradient_is_bad
        self._gradient_is_bad = False
        if is_good:
            self.in_a_row = 0
            _copy(self._buffers, self._good_buffers)
            return True
        _copy(self._good_buffers, self._buffers)
        self.skipped += 1
        self.in_a_row += 1
        return False

    def report_skipped(
        self, loss: float, files: Sequence[str], find_last_checkpoint: Callable[[], Path | None]
    ) -> None:
        """Log that a step was skipped.

        Args:
            loss: The loss that the step returned.
            files: File names of the images in its batch; the first ten are logged.
            find_last_checkpoint: Returns the newest checkpoint, for the error.

        Raises:
            DivergedError: Too many bad steps in a row.
        """
        shown = ", ".join(files[:NAMED_FILES]) + (", ..." if len(files) > NAMED_FILES else "")
        logger.warning(
            "step skipped: loss %s or its gradient is not finite; batch: %s", loss, shown
        )
        if self.in_a_row >= self._most_in_a_row:
            raise DivergedError(
                f"{self.in_a_row} steps in a row had a loss or gradient that is not finite; "
                f"the last batch: {shown}; last good checkpoint: "
                f"{find_last_checkpoint() or 'none'}; try a lower learning_rate or clip_norm"
            )

    def _before_step(self, optim: Optimizer, args: Any, kwargs: Any) -> None:  # noqa: ARG002 - a hook's signature
        parameters = [one for group in optim.param_groups for one in group["params"]]
        gradients = [one.grad for one in parameters if one.grad is not None]
        if not gradients:
            return
        norm = nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            self._gradient_is_bad = True
            optim.zero_grad(set_to_none=True)  # optimisers skip weights without a gradient
        elif self._clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self._clip_norm, norm)


def _copy(source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    for one, other in zip(source, target, strict=True):
        other.copy_(one)
