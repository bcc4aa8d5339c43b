"""Finds a learning rate by trying rates from very low to very high, a step each.

The range test of Smith 2015 (https://arxiv.org/abs/1506.01186), on the scale and with the stop of
fastai and Lightning: the rate grows exponentially, and the suggestion is where the loss falls
fastest.
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

LOWEST, HIGHEST, STEPS = 1e-7, 10.0, 100
FEWEST_STEPS = 30
SMOOTHING = 0.9  # about ten steps; with fastai's 0.98 a divergence is seen up to eight steps later
HOPELESS = 4.0  # times the best loss
LEFT_OUT_FIRST, LEFT_OUT_LAST = 10, 5
LEAST_DESCENT = 0.01  # of the loss at the start
NOISE = 2.0  # standard deviations of the first losses


@dataclass(frozen=True)
class LearningRates:
    """What the range test found.

    Attributes:
        suggestion: The rate at which the smoothed loss falls fastest, to three digits.
        rates: One a step, in growing order.
        losses: Of each step.
        smoothed: Exponential average of the losses, corrected for its start at 0.
        ended: "highest" when all rates were tried, "diverged" when the loss got too high before.
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

    Model, steps, precision, batches and their order are those of `fit`; the learning rate's
    schedules and warm-up are left out.

    Args:
        params: The published dict or validated params; `learning_rate` is not used.
        datadir: The folder that holds `train`.
        lowest: The rate of the first step.
        highest: The rate of the last one.
        steps: How many, unless the loss gets 4 times its best or is not finite before.

    Raises:
        ParamsError: The params or the range are wrong.
        DataError: The training images are bad.
        TrainerError: Nothing can be suggested: the loss never fell, or diverged too soon.
    """
    params = Params.validate_all(params)
    _check_range(lowest, highest, steps)
    with open_trial(params, datadir) as tried:
        rates, losses = _losses(tried, _exponential(lowest, highest, steps))
    smoothed = _smoothed(losses)
    _check_descent(rates, losses, smoothed)
    return LearningRates(
        suggestion=_steepest(rates, smoothed),
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
    return page(title, [line_chart(title, {**lines, "suggested": [nearest]})])


def _check_range(lowest: float, highest: float, steps: int) -> None:
    findings = []
    if not 0 < lowest < highest < math.inf:
        findings.append(f"lowest {lowest:g}, highest {highest:g}: must be 0 < lowest < highest")
    if steps < FEWEST_STEPS:
        findings.append(f"steps: {steps} are too few to see a slope; {FEWEST_STEPS} at least")
    if findings:
        raise ParamsError("wrong range of learning rates", findings)


def _exponential(lowest: float, highest: float, steps: int) -> list[float]:
    ratio = highest / lowest
    return [lowest * ratio ** (index / (steps - 1)) for index in range(steps)]


def _losses(tried: Trial, rates: list[float]) -> tuple[list[float], list[float]]:
    """Take a step with each rate; return rates and losses up to where there is no hope left."""
    losses: list[float] = []
    smoothed: list[float] = []
    batches = tried.batches(tried.params.batch_size)
    for rate, batch in zip(rates, batches, strict=False):
        for group in tried.learner.optim.param_groups:
            group["lr"] = rate
        loss = tried.step(batch)
        if loss is None:
            break
        losses.append(loss)
        smoothed = _smoothed(losses)
        if smoothed[-1] > HOPELESS * min(smoothed):
            break
    return rates[: len(losses)], losses


def _smoothed(losses: list[float]) -> list[float]:
    """Return the exponential averages, each divided by the weight that it has had so far."""
    average, found = 0.0, []
    for number, loss in enumerate(losses, 1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        found.append(average / (1 - SMOOTHING**number))
    return found


def _check_descent(rates: list[float], losses: list[float], smoothed: list[float]) -> None:
    """Refuse to suggest anything from a curve that is too short or does not fall.

    Raises:
        TrainerError: It is too short, or falls by no more than the losses of single batches differ
            while the rate is too low to learn.
    """
    if len(losses) < FEWEST_STEPS:
        at = f" at a learning rate of {rates[-1]:.3g}" if rates else ""
        raise TrainerError(
            f"the loss diverged after {len(losses)} steps{at}, too soon to see it fall; "
            "begin lower (--from), or take more steps (--steps)"
        )
    start, noise = fmean(losses[:LEFT_OUT_FIRST]), stdev(losses[:LEFT_OUT_FIRST])
    fall = start - min(smoothed)
    if fall <= max(NOISE * noise, LEAST_DESCENT * start):
        raise TrainerError(
            f"nothing was learnt at any learning rate from {rates[0]:.3g} to {rates[-1]:.3g}: "
            f"the loss was {start:.4f} and never fell below {min(smoothed):.4f}; "
            "look at labels, net_arch and optim_kwargs, or take more steps (--steps)"
        )


def _steepest(rates: list[float], smoothed: list[float]) -> float:
    """Return the rate, to three digits, at which the curve over log(rate) falls fastest."""
    last = len(rates) - LEFT_OUT_LAST
    slopes = {
        index: smoothed[index + 1] - smoothed[index - 1] for index in range(LEFT_OUT_FIRST, last)
    }
    return float(f"{rates[min(slopes, key=slopes.__getitem__)]:.3g}")
