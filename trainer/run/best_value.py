"""The best value of a metric over the evaluations, and how long none was better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trainer.errors import ParamsError
from trainer.suggestions import did_you_mean

__all__ = ["BestValue", "lower_is_better", "metric_value", "unknown_metric"]


def lower_is_better(metric: str) -> bool:
    """Return whether a metric is a loss or an error rather than a score."""
    return any(word in metric.lower() for word in ("loss", "error"))


def metric_value(metric: str, key: str, figures: Mapping[str, float]) -> float:
    """Return a metric of an evaluation.

    Args:
        metric: Its name.
        key: The key in the params that names it, for the error.
        figures: The evaluation's loss and metrics by name.

    Raises:
        ParamsError: The evaluation has no such metric.
    """
    if metric not in figures:
        raise ParamsError("wrong params", [unknown_metric(key, metric, figures)])
    return figures[metric]


def unknown_metric(key: str, metric: str, known: Iterable[str]) -> str:
    """Return the finding that a key of the params names a metric that does not exist."""
    known = list(known)
    available = ", ".join(known)
    return f"{key}: unknown metric {metric!r}; available: {available}{did_you_mean(metric, known)}"


class BestValue:
    """Remembers the best value of one metric, and counts evaluations without a better one.

    Args:
        metric: Its name among the evaluation's figures.
        key: The key in the params that names it, for errors.
        patience: Number of evaluations without a better value that it takes to run out of
            patience; None: it never does.
    """

    def __init__(self, metric: str, key: str, patience: int | None = None) -> None:
        self.metric = metric
        self.best: float | None = None
        self._key = key
        self._patience = patience
        self._evaluations_without_better = 0

    def update(self, figures: Mapping[str, float]) -> bool:
        """Take an evaluation into account; return whether its value is the best so far.

        Raises:
            ParamsError: The evaluation has no such metric.
        """
        value = metric_value(self.metric, self._key, figures)
        is_better = self.best is None or (
            value < self.best if lower_is_better(self.metric) else value > self.best
        )
        if is_better:
            self.best = value
            self._evaluations_without_better = 0
        else:
            self._evaluations_without_better += 1
        return is_better

    @property
    def is_out_of_patience(self) -> bool:
        """Whether too many evaluations in a row brought no better value."""
        return self._patience is not None and self._evaluations_without_better >= self._patience

    def state_dict(self) -> dict[str, Any]:
        """Return the state, for a checkpoint."""
        without = self._evaluations_without_better
        return {"metric": self.metric, "best": self.best, "without": without}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; the state of another metric is ignored."""
        if state["metric"] == self.metric:
            self.best, self._evaluations_without_better = state["best"], state["without"]
