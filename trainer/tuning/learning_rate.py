"""Finds a learning rate by trying rates from very low to very high, with one step per rate.

This is the range test of Smith 2015 (https://arxiv.org/abs/1506.01186), with the scale and the stop
of fastai and Lightning: the rate grows exponentially, and the suggestion is the rate at which the
loss falls fastest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from trainer.errors import ParamsError, TrainerError
from trainer.params.params import Params
from trainer.reporting.charts import line_chart
from trainer.reporting.page import page
from trainer.tuning.trial import Trial, open_trial

__all__ = ["LearningRates", "curve_page", "find_learning_rate"]

LOWEST, HIGHEST, STEPS = 1e-7, 10.0, 100
FEWEST_STEPS = 30
SMOOTHING = 0.9
"""Over about ten steps; with fastai's 0.98 a divergence is seen up to eight steps later."""
DIVERGED_AT = 4.0
"""Multiple of the best loss at which the loss counts as diverged."""
LEFT_OUT_FIRST, LEFT_OUT_LAST = 10, 5
"""Steps at both ends of the curve that the suggestion ignores."""
LEAST_FALL = 0.01
"""Share of the first loss that the loss must fall by."""
NOISE_DEVIATIONS = 2.0
"""Standard deviations of the first losses that the loss must fall by."""


@dataclass(frozen=True)
class LearningRates:
    """The result of the range test.

    Attributes:
        suggestion: The rate at which the smoothed loss falls fastest, to three digits.
        rates: The learning rate of each step, in growing order.
        losses: The loss of each step.
        smoothed: Exponential averages of the losses, corrected for their start at 0.
        ended: "highest" when all rates were tried, "diverged" when the loss grew too high before.
    """

    suggestion: float
    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    ended: Literal["highest", "diverged"]


def find_learning_rate(
    params: Mapping[str, Any] | Params,
    datadir: str | Path,
    *,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    steps: int = STEPS,
) -> LearningRates:
    """Suggest a learning rate for these params, data and batch size; nothing is written.

    Model, steps, precision, batches and their order are those of `fit`; there are no schedules and
    no warm-up.

    Args:
        params: The published dict or validated params; `learning_rate` is not used.
        datadir: The folder that holds `train`.
        lowest: The rate of the first step.
        highest: The rate of the last step.
        steps: Number of steps; there are fewer when the loss grows to 4 times its best or is not
            finite.

    Raises:
        ParamsError: The params or the range are wrong.
        DataError: The training images are bad.
        TrainerError: No rate can be suggested: the loss never fell, or diverged too soon.
    """
    params = Params.validate_all(params)
    _check_range(lowest, highest, steps)
    with open_trial(params, datadir) as trial:
        rates, losses = _take_steps(trial, _exponential_rates(lowest, highest, steps))
    smoothed = _smooth(losses)
    _check_descent(rates, losses, smoothed)
    return LearningRates(
        suggestion=_steepest_rate(rates, smoothed),
        rates=rates,
        losses=losses,
        smoothed=smoothed,
        ended="highest" if len(rates) == steps else "diverged",
    )


def curve_page(found: LearningRates) -> str:
    """Return the curve as an HTML page that any browser opens."""
    title = f"loss over log10 of the learning rate; suggested: {found.suggestion:g}"
    exponents = [math.log10(rate) for rate in found.rates]
    lines = {
        "loss": list(zip(exponents, found.losses, strict=True)),
        "smoothed": list(zip(exponents, found.smoothed, strict=True)),
    }
    nearest = min(lines["smoothed"], key=lambda point: abs(point[0] - math.log10(found.suggestion)))
    chart = line_chart(title, {**lines, "suggested": [nearest]})
    return page("chart.html", title, chart=chart)


def _check_range(lowest: float, highest: float, steps: int) -> None:
    findings = []
    if not 0 < lowest < highest < math.inf:
        findings.append(f"lowest {lowest:g}, highest {highest:g}: must be 0 < lowest < highest")
    if steps < FEWEST_STEPS:
        findings.append(f"steps: {steps} are too few to see a slope; use {FEWEST_STEPS} or more")
    if findings:
        raise ParamsError("wrong range of learning rates", findings)


def _exponential_rates(lowest: float, highest: float, steps: int) -> list[float]:
    ratio = highest / lowest
    return [lowest * ratio ** (index / (steps - 1)) for index in range(steps)]


def _take_steps(trial: Trial, rates: list[float]) -> tuple[list[float], list[float]]:
    """Take a step with each rate until the loss diverges; return the rates and their losses."""
    losses: list[float] = []
    smoothed: list[float] = []
    batches = trial.batches(trial.params.batch_size)
    for rate, batch in zip(rates, batches, strict=False):
        for group in trial.learner.optim.param_groups:
            group["lr"] = rate
        loss = trial.step(batch)
        if loss is None:
            break
        losses.append(loss)
        smoothed = _smooth(losses)
        if smoothed[-1] > DIVERGED_AT * min(smoothed):
            break
    return rates[: len(losses)], losses


def _smooth(losses: list[float]) -> list[float]:
    """Return the exponential averages of the losses, each divided by its total weight so far."""
    average, averages = 0.0, []
    for number, loss in enumerate(losses, 1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        averages.append(average / (1 - SMOOTHING**number))
    return averages


def _check_descent(rates: list[float], losses: list[float], smoothed: list[float]) -> None:
    """Check that the curve is long enough and falls.

    Raises:
        TrainerError: It is too short, or it falls by no more than the losses of single batches
            differ while the rate is too low to learn.
    """
    if len(losses) < FEWEST_STEPS:
        at = f" at a learning rate of {rates[-1]:.3g}" if rates else ""
        raise TrainerError(
            f"the loss diverged after {len(losses)} steps{at}, too soon to see it fall; "
            "begin lower (--from), or take more steps (--steps)"
        )
    start, noise = fmean(losses[:LEFT_OUT_FIRST]), stdev(losses[:LEFT_OUT_FIRST])
    fall = start - min(smoothed)
    if fall <= max(NOISE_DEVIATIONS * noise, LEAST_FALL * start):
        raise TrainerError(
            f"the loss did not fall at any learning rate from {rates[0]:.3g} to {rates[-1]:.3g}: "
            f"it was {start:.4f} at first and {min(smoothed):.4f} at best; "
            "check labels, net_arch and optim_kwargs, or take more steps (--steps)"
        )


def _steepest_rate(rates: list[float], smoothed: list[float]) -> float:
    """Return the rate, to three digits, at which the curve over log(rate) falls fastest."""
    last = len(rates) - LEFT_OUT_LAST
    slopes = {
        index: smoothed[index + 1] - smoothed[index - 1] for index in range(LEFT_OUT_FIRST, last)
    }
    return float(f"{rates[min(slopes, key=slopes.__getitem__)]:.3g}")
