"""Stands before every optimiser step: clips gradients, and lets no non-finite number through."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from trainer.errors import DivergedError

logger = logging.getLogger(__name__)
NAMED_FILES = 10


class StepGuard:
    """Skips steps whose loss or gradient is not finite, counts them, and ends the run in time.

    It works as hooks of the optimiser, so that it holds for steps of the user's own as well. A
    skipped step leaves weights, optimiser state and running statistics as they were.

    Args:
        model: Whose buffers (BatchNorm's running statistics) are put back after a bad step.
        optim: Whose steps are guarded.
        clip_norm: Gradients longer than this are scaled down to it; None leaves them.
        most_in_a_row: So many bad steps in a row end the run.

    Attributes:
        skipped: How many steps were skipped in all.
        in_a_row: How many of the latest steps were.
    """

    def __init__(
        self, model: nn.Module, optim: Optimizer, *, clip_norm: float | None, most_in_a_row: int
    ) -> None:
        self.skipped = 0
        self.in_a_row = 0
        self._clip_norm = clip_norm
        self._most = most_in_a_row
        self._buffers = [buffer for buffer in model.buffers() if buffer is not None]
        self._good = [buffer.clone() for buffer in self._buffers]
        self._gradient_is_bad = False
        self._hook = optim.register_step_pre_hook(self._before_step)

    def close(self) -> None:
        """Take the hook off the optimiser."""
        self._hook.remove()

    def restart(self, skipped: int) -> None:
        """Go on from a checkpoint: so many steps were skipped, and the model is as it is now."""
        self.skipped = skipped
        self._copy(self._buffers, self._good)

    def accept_step(self, loss: float) -> bool:
        """Tell whether the step that was just taken, with this loss, is good; else undo it."""
        good = math.isfinite(loss) and not self._gradient_is_bad
        self._gradient_is_bad = False
        if good:
            self.in_a_row = 0
            self._copy(self._buffers, self._good)
            return True
        self._copy(self._good, self._buffers)
        self.skipped += 1
        self.in_a_row += 1
        return False

    def report_skipped(
        self, loss: float, files: Sequence[str], last_good: Callable[[], Path | None]
    ) -> None:
        """Say that a step was skipped.

        Args:
            loss: What the step returned.
            files: The images of its batch, to be named.
            last_good: Finds the newest checkpoint, to be named.

        Raises:
            DivergedError: Too many bad steps in a row.
        """
        shown = ", ".join(files[:NAMED_FILES]) + (", ..." if len(files) > NAMED_FILES else "")
        logger.warning(
            "step skipped: loss %s or its gradient is not finite; batch: %s", loss, shown
        )
        if self.in_a_row >= self._most:
            raise DivergedError(
                f"{self.in_a_row} steps in a row had a loss or gradient that is not finite; "
                f"the last batch: {shown}; last good checkpoint: {last_good() or 'none'}; "
                "try a lower learning_rate or clip_norm"
            )

    def _before_step(self, optim: Optimizer, args: Any, kwargs: Any) -> None:  # noqa: ARG002
        parameters = [one for group in optim.param_groups for one in group["params"]]
        gradients = [one.grad for one in parameters if one.grad is not None]
        if not gradients:
            return
        norm = nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            self._gradient_is_bad = True
            optim.zero_grad(set_to_none=True)  # an optimiser passes over weights without gradient
        elif self._clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self._clip_norm, norm)

    @staticmethod
    def _copy(source: Sequence[torch.Tensor], target: Sequence[torch.Tensor]) -> None:
        for one, other in zip(source, target, strict=True):
            other.copy_(one)
