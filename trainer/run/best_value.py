"""Watches the evaluations: which is the best, and when there is nothing more to expect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.errors import ParamsError


def lower_is_better(metric: str) -> bool:
    """Tell whether a metric is a loss or an error rather than a score."""
    return any(word in metric.lower() for word in ("loss", "error"))


def value_of(metric: str, key: str, figures: Mapping[str, float]) -> float:
    """Return a metric of an evaluation.

    Raises:
        ParamsError: There is no such metric; names those that there are.
    """
    if metric not in figures:
        known = ", ".join(figures)
        raise ParamsError("wrong params", [f"{key}: {metric!r} is no metric; there are: {known}"])
    return figures[metric]


class BestValue:
    """Remembers the best value of one metric.

    Args:
        metric: Its name among the evaluation's figures.
        key: The key in the params that named it, for errors.
        patience: After so many evaluations without a better one it is over; None: never.
    """

    def __init__(self, metric: str, key: str, patience: int | None = None) -> None:
        self.metric = metric
        self.best: float | None = None
        self._key = key
        self._patience = patience
        self._without = 0

    def update(self, figures: Mapping[str, float]) -> bool:
        """Take in an evaluation; tell whether it is the best so far.

        Raises:
            ParamsError: The evaluation has no such metric.
        """
        value = value_of(self.metric, self._key, figures)
        better = self.best is None or (
            value < self.best if lower_is_better(self.metric) else value > self.best
        )
        self._without = 0 if better else self._without + 1
        if better:
            self.best = value
        return better

    @property
    def is_over(self) -> bool:
        """Whether patience has run out."""
        return self._patience is not None and self._without >= self._patience

    def state_dict(self) -> dict[str, Any]:
        """Return the state, for a checkpoint."""
        return {"metric": self.metric, "best": self.best, "without": self._without}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` returned; another metric than then starts anew."""
        if state["metric"] == self.metric:
            self.best, self._without = state["best"], state["without"]
