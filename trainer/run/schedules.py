"""The learning-rate schedules of a run, stepped together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler, ReduceLROnPlateau

from trainer.params.params import Params
from trainer.run.best_value import metric_value

__all__ = ["Schedules"]


class Schedules:
    """Several schedules at once, each stepped once per epoch or per batch, and a warm-up.

    Args:
        params: `learning_rate_schedule` and `warmup_steps`.
        optim: The optimiser whose learning rate the schedules set.
    """

    def __init__(self, params: Params, optim: Optimizer) -> None:
        self._optim = optim
        self._listed = [(one, one.build(optim)) for one in params.learning_rate_schedule]
        self._warmup: LRScheduler | None = None
        if params.warmup_steps:
            start = 1 / (params.warmup_steps + 1)
            self._warmup = LinearLR(optim, start_factor=start, total_iters=params.warmup_steps)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the first parameter group."""
        return float(self._optim.param_groups[0]["lr"])

    def after_batch(self) -> None:
        """Step the warm-up and the schedules that are stepped once per batch."""
        if self._warmup is not None:
            self._warmup.step()
        for listed, schedule in self._listed:
            if listed.every == "batch":
                schedule.step()

    def after_epoch(self, tested: Mapping[str, float]) -> None:
        """Step the schedules that are stepped once per epoch.

        Args:
            tested: Loss and metrics of the epoch's evaluation, for ReduceLROnPlateau; empty when
                the epoch was not evaluated, and then ReduceLROnPlateau is not stepped.

        Raises:
            ParamsError: The evaluation has no metric of the name that a schedule waits for.
        """
        for index, (listed, schedule) in enumerate(self._listed):
            if isinstance(schedule, ReduceLROnPlateau):
                if tested:
                    key = f"learning_rate_schedule[{index}].metric"
                    schedule.step(metric_value(listed.metric, key, tested))
            elif listed.every == "epoch":
                schedule.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the states, for a checkpoint."""
        return [schedule.state_dict() for schedule in self._all()]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: The states are those of other schedules.
        """
        for schedule, state in zip(self._all(), states, strict=True):
            schedule.load_state_dict(state)

    def _all(self) -> list[LRScheduler]:
        warmup = [] if self._warmup is None else [self._warmup]
        return [*warmup, *(schedule for _, schedule in self._listed)]
