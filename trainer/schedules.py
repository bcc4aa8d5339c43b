"""The learning-rate schedules of a run, stepped together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from trainer.components import Schedule


class Schedules:
    """Several schedules at once, each stepped once an epoch.

    Args:
        schedules: As the params list them.
        optim: The optimiser whose learning rate they set.
    """

    def __init__(self, schedules: Sequence[Schedule], optim: Optimizer) -> None:
        self._optim = optim
        self._made = [schedule.build(optim) for schedule in schedules]

    @property
    def learning_rate(self) -> float:
        """The learning rate of the first parameter group."""
        return float(self._optim.param_groups[0]["lr"])

    def after_epoch(self, test_loss: float | None) -> None:
        """Step every schedule; one that waits for a plateau steps only when there was a test."""
        for schedule in self._made:
            if not isinstance(schedule, ReduceLROnPlateau):
                schedule.step()
            elif test_loss is not None:
                schedule.step(test_loss)

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the states, for a checkpoint."""
        return [schedule.state_dict() for schedule in self._made]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Put back what `state_dict` returned; schedules that were added since start anew."""
        for schedule, state in zip(self._made, states, strict=False):
            schedule.load_state_dict(state)
