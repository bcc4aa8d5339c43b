"""The learning-rate schedules of a run, stepped together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler, ReduceLROnPlateau

from trainer.params.params import Params
from trainer.run.best_value import value_of


class Schedules:
    """Several schedules at once, each stepped every epoch or every batch, after a warm-up.

    Args:
        params: `learning_rate_schedule` and `warmup_steps`.
        optim: The optimiser whose learning rate they set.
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
        """Step the warm-up and the schedules that count batches."""
        if self._warmup is not None:
            self._warmup.step()
        for listed, made in self._listed:
            if listed.every == "batch":
                made.step()

    def after_epoch(self, tested: Mapping[str, float]) -> None:
        """Step the schedules that count epochs.

        Args:
            tested: The evaluation's figures, for those that wait for a plateau; empty when there
                was none, and then those wait.

        Raises:
            ParamsError: A schedule waits for a metric that there is not.
        """
        for index, (listed, made) in enumerate(self._listed):
            if isinstance(made, ReduceLROnPlateau):
                if tested:
                    key = f"learning_rate_schedule[{index}].metric"
                    made.step(value_of(listed.metric, key, tested))
            elif listed.every == "epoch":
                made.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the states, for a checkpoint."""
        return [made.state_dict() for made in self._all()]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Put back what `state_dict` returned.

        Raises:
            ValueError: There were other schedules then.
        """
        for made, state in zip(self._all(), states, strict=True):
            made.load_state_dict(state)

    def _all(self) -> list[LRScheduler]:
        warmup = [] if self._warmup is None else [self._warmup]
        return [*warmup, *(made for _, made in self._listed)]
