"""Finds a batch size that trains fast and stays inside memory, by real steps of growing size."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from trainer.errors import ParamsError, TrainerError
from trainer.machine.memory import MemoryGauge, memory_of
from trainer.params.params import Params
from trainer.tuning.trial import Trial, open_trial

FIRST, LARGEST = 16, 4096
SHARE = 0.8  # of the memory that is available
MARGIN = 1.1  # on the predicted growth
NEARLY = 0.95  # of the fastest counts as fast
FEWEST_STEPS, MOST_STEPS, LEAST_S = 3, 50, 0.3
GB = 1e9

EndReason = Literal["memory", "images", "largest"]


@dataclass(frozen=True)
class SizeMeasurement:
    """What some steps with a batch size took.

    Attributes:
        batch_size: Images a step.
        images_per_s: Of whole steps, with the making of the batch.
        rest_bytes: The process's memory between steps.
        peak_bytes: Its most during them.
    """

    batch_size: int
    images_per_s: float
    rest_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class BatchSizes:
    """What was tried, and what is suggested.

    Attributes:
        suggestion: The smallest size that is within 5 % of the fastest.
        largest: The largest that was measured inside the budget.
        budget_bytes: What the process may take.
        measured: One a size, in growing order.
        ended: "memory" when the next size would not fit, "images" when there are too few for it,
            "largest" when the largest that was asked for is done.
        next_bytes: What the next size takes at its peak: as predicted, or as measured when it was
            tried and took more than was predicted.
    """

    suggestion: int
    largest: int
    budget_bytes: int
    measured: list[SizeMeasurement]
    ended: EndReason
    next_bytes: int


def find_batch_size(
    params: Mapping[str, Any] | Params,
    datadir: str | Path,
    *,
    memory_gb: float | None = None,
    first: int = FIRST,
    largest: int = LARGEST,
) -> BatchSizes:
    """Suggest a batch size for these params and data; nothing is written.

    A new classifier takes a few of the steps that `fit` would take, with a batch that doubles until
    the next one is predicted to take more than the budget. Whether it would fit is never tried: on
    the CPU what does not fit gets the process killed.

    Args:
        params: The published dict or validated params; `batch_size` is not used.
        datadir: The folder that holds `train`.
        memory_gb: What the process may take in all, in 10^9 bytes, of the device's memory; when not
            given, what it takes now and 80 % of what is available.
        first: The smallest size that is suggested. Smaller ones are tried before it, to know what
            it will take.
        largest: The largest size that is tried.

    Raises:
        ParamsError: The params, the budget or the sizes are wrong.
        DataError: The training images are bad.
        TrainerError: Not even the first size fits, or there are too few images for it.
    """
    params = Params.validate_all(params)
    parts = params.gradient_accumulation
    _check_asked(memory_gb, first, largest, parts)
    memory = memory_of(params.device)
    with open_trial(params, datadir) as tried:
        budget = round(memory_gb * GB) if memory_gb else None
        if budget is None:
            memory.restart()
            budget = memory.used() + int(SHARE * memory.available())

        def measure(size: int) -> SizeMeasurement:
            return _steps(tried, size, memory, LEAST_S if size >= first else 0.0)

        search = Search(measure, budget)
        fits = memory.used() <= budget and search.try_sizes(
            _sizes(first, min(largest, len(tried.split)), parts)
        )
    measured = [one for one in search.measured if one.batch_size >= first]
    if not measured:
        if len(tried.split) < first:
            text = f"{len(tried.split)} training images are too few for a batch size of {first}"
            raise TrainerError(f"{text}; begin lower (--from)")
        raise TrainerError(
            f"a batch size of {first} does not fit into {budget / GB:.2f} GB, of which "
            f"{memory.used() / GB:.2f} GB are taken without it; begin lower (--from) or raise the "
            "budget (--memory-gb)"
        )
    fastest = max(one.images_per_s for one in measured)
    last = measured[-1].batch_size
    done: EndReason = "largest" if 2 * last > largest else "images"
    return BatchSizes(
        suggestion=next(one.batch_size for one in measured if one.images_per_s >= NEARLY * fastest),
        largest=last,
        budget_bytes=budget,
        measured=measured,
        ended=done if fits else "memory",
        next_bytes=search.refused_bytes or search.predicted(2 * last),
    )


class Search:
    """Tries growing sizes as long as the next one is predicted to fit.

    Args:
        measure: Takes steps of a size.
        budget_bytes: What must not be exceeded.

    Attributes:
        refused_bytes: What the size that ended the search takes, predicted or measured.

    """

    def __init__(self, measure: Callable[[int], SizeMeasurement], budget_bytes: int) -> None:
        self._measure = measure
        self._budget = budget_bytes
        self._found: dict[int, SizeMeasurement] = {}
        self.refused_bytes: int | None = None

    @property
    def measured(self) -> list[SizeMeasurement]:
        """What was tried and did fit, one a size, in the order of trying."""
        return list(self._found.values())

    def try_sizes(self, sizes: Sequence[int]) -> bool:
        """Try the sizes in growing order; return whether all of them fit."""
        for size in (*sizes[:1], *sizes):  # the very first steps also load and build what stays
            needed = self.predicted(size)
            if needed <= self._budget:
                try:
                    one = self._measure(size)
                except torch.OutOfMemoryError:  # a GPU's, which hurts nobody
                    needed = self._budget + 1
                else:
                    needed = one.peak_bytes
            if needed > self._budget:
                self.refused_bytes = needed
                return False
            self._found[size] = one
        return True

    def predicted(self, size: int) -> int:
        """Return the peak that a size will have: the last one's growth, in proportion.

        What does not grow with the batch (gradients) is counted as if it did, which errs on the
        safe side.
        """
        if not self._found:
            return 0
        last = self.measured[-1]
        growth = (last.peak_bytes - last.rest_bytes) * (size / last.batch_size)
        return last.rest_bytes + int(growth * MARGIN)


def _steps(tried: Trial, size: int, memory: MemoryGauge, least_s: float) -> SizeMeasurement:
    """Take some steps with whole batches of a size, for so many seconds at least."""
    whole = torch.arange(len(tried.split) // size * size)
    batches = replace(tried, split=tried.split.part(whole)).batches(size)
    memory.restart()
    rest = memory.used()
    tried.step(next(batches))  # the first of a new shape takes longer
    steps, started = 0, time.perf_counter()
    while True:
        tried.step(next(batches))
        steps += 1
        seconds = time.perf_counter() - started
        if steps >= MOST_STEPS or (steps >= FEWEST_STEPS and seconds >= least_s):
            return SizeMeasurement(size, steps * size / seconds, rest, memory.peak())


def _sizes(first: int, largest: int, parts: int) -> list[int]:
    """Return sizes that double up to the first and from there up to the largest.

    The smallest has two images in each part that goes through the net: BatchNorm needs them.
    """
    sizes = [first]
    while sizes[0] // 2 >= 2 * parts:
        sizes.insert(0, sizes[0] // 2)
    while 2 * sizes[-1] <= largest:
        sizes.append(2 * sizes[-1])
    return [size for size in sizes if size <= largest]


def _check_asked(memory_gb: float | None, first: int, largest: int, parts: int) -> None:
    findings = []
    if memory_gb is not None and memory_gb <= 0:
        findings.append(f"memory_gb: {memory_gb:g} must be above 0")
    if not 2 * parts <= first <= largest:
        least = "2 <=" if parts == 1 else f"2 * gradient_accumulation = {2 * parts} <="
        findings.append(f"first {first}, largest {largest}: must be {least} first <= largest")
    if findings:
        raise ParamsError("wrong search for a batch size", findings)
