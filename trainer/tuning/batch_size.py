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

__all__ = ["BatchSizes", "EndReason", "Search", "SizeMeasurement", "find_batch_size"]

FIRST, LARGEST = 16, 4096
SHARE_OF_AVAILABLE = 0.8
GROWTH_MARGIN = 1.1
NEAR_FASTEST = 0.95
FEWEST_STEPS, MOST_STEPS, LEAST_S = 3, 50, 0.3
GB = 1e9

EndReason = Literal["memory", "images", "largest"]


@dataclass(frozen=True)
class SizeMeasurement:
    """Speed and memory of some steps with one batch size.

    Attributes:
        batch_size: Images per step.
        images_per_s: Images per second, with the time that making the batch takes.
        rest_bytes: Memory of the process between steps.
        peak_bytes: Most memory of the process during the steps.
    """

    batch_size: int
    images_per_s: float
    rest_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class BatchSizes:
    """The batch sizes that were measured, and the suggestion.

    Attributes:
        suggestion: The smallest size that is within 5 % of the fastest.
        largest: The largest size that was measured within the budget.
        budget_bytes: How much memory the process may use.
        measured: One measurement per size, in growing order.
        ended: "memory" when the next size would not fit, "images" when there are too few images for
            it, "largest" when the largest size that was asked for is measured.
        next_bytes: Peak memory of the next size: measured when it was tried and took more than was
            predicted, else predicted.
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

    A new classifier takes some of the steps that `fit` would take, with a batch that doubles as
    long as the next size is predicted to stay within the budget. A size that is not is never tried:
    on the CPU the process would be killed.

    Args:
        params: The published dict or validated params; `batch_size` is not used.
        datadir: The folder that holds `train`.
        memory_gb: How much of the device's memory the process may use, in 10^9 bytes; by default
            what it uses now and 80 % of what is available.
        first: The smallest size to suggest. Smaller ones are measured before it, to predict it.
        largest: The largest size to try.

    Raises:
        ParamsError: The params, the budget or the sizes are wrong.
        DataError: The training images are bad.
        TrainerError: The first size does not fit, or there are too few images for it.
    """
    params = Params.validate_all(params)
    _check_range(memory_gb, first, largest, params.gradient_accumulation)
    with open_trial(params, datadir) as trial:
        search = _search(trial, memory_gb, first, largest)
    return _result(search, first, largest)


def _search(trial: Trial, memory_gb: float | None, first: int, largest: int) -> Search:
    """Return the search after it has measured as many sizes as fit."""
    memory = memory_of(trial.params.device)
    if memory_gb is None:
        memory.restart()
        budget = memory.used() + int(SHARE_OF_AVAILABLE * memory.available())
    else:
        budget = round(memory_gb * GB)

    def measure(size: int) -> SizeMeasurement:
        return _measure(trial, size, memory, LEAST_S if size >= first else 0.0)

    n_images = len(trial.split)
    if n_images < first:
        text = f"{n_images} training images are too few for a batch size of {first}"
        raise TrainerError(f"{text}; begin lower (--from)")
    search = Search(measure, budget)
    used = memory.used()
    if used <= budget:
        parts = trial.params.gradient_accumulation
        search.try_sizes(_sizes(first, min(largest, n_images), parts))
    if not search.measured or search.measured[-1].batch_size < first:
        raise TrainerError(
            f"a batch size of {first} does not fit into {budget / GB:.2f} GB; the process uses "
            f"{used / GB:.2f} GB without it; begin lower (--from) or raise the budget (--memory-gb)"
        )
    return search


def _result(search: Search, first: int, largest: int) -> BatchSizes:
    measured = [one for one in search.measured if one.batch_size >= first]
    fastest = max(one.images_per_s for one in measured)
    last = measured[-1].batch_size
    ended: EndReason = "largest" if 2 * last > largest else "images"
    return BatchSizes(
        suggestion=next(
            one.batch_size for one in measured if one.images_per_s >= NEAR_FASTEST * fastest
        ),
        largest=last,
        budget_bytes=search.budget_bytes,
        measured=measured,
        ended="memory" if search.refused_bytes else ended,
        next_bytes=search.refused_bytes or search.predict(2 * last),
    )


class Search:
    """Measures growing batch sizes as long as the next one is predicted to fit.

    Args:
        measure: Takes steps with batches of a size.
        budget_bytes: Most memory that the process may use.

    Attributes:
        refused_bytes: Peak memory, predicted or measured, of the size that did not fit, if any.
    """

    def __init__(self, measure: Callable[[int], SizeMeasurement], budget_bytes: int) -> None:
        self._measure = measure
        self.budget_bytes = budget_bytes
        self._measured: dict[int, SizeMeasurement] = {}
        self.refused_bytes: int | None = None

    @property
    def measured(self) -> list[SizeMeasurement]:
        """One measurement per size that fits, in growing order."""
        return list(self._measured.values())

    def try_sizes(self, sizes: Sequence[int]) -> bool:
        """Measure the sizes in growing order; return whether all of them fit."""
        for size in (*sizes[:1], *sizes):  # the very first steps also load and build what remains
            needed = self.predict(size)
            if needed <= self.budget_bytes:
                try:
                    one = self._measure(size)
                except torch.OutOfMemoryError:  # on a GPU, where it does no harm
                    needed = self.budget_bytes + 1
                else:
                    needed = one.peak_bytes
            if needed > self.budget_bytes:
                self.refused_bytes = needed
                return False
            self._measured[size] = one
        return True

    def predict(self, size: int) -> int:
        """Return the peak memory of a size, in proportion to that of the last one.

        Memory that does not grow with the batch (gradients) is treated as if it did, which errs on
        the safe side.
        """
        if not self._measured:
            return 0
        last = self.measured[-1]
        growth = (last.peak_bytes - last.rest_bytes) * (size / last.batch_size)
        return last.rest_bytes + int(growth * GROWTH_MARGIN)


def _measure(trial: Trial, size: int, memory: MemoryGauge, least_s: float) -> SizeMeasurement:
    """Take some steps with full batches of a size, for at least so many seconds."""
    full = torch.arange(len(trial.split) // size * size)
    batches = replace(trial, split=trial.split.part(full)).batches(size)
    memory.restart()
    rest = memory.used()
    trial.step(next(batches))  # the first step of a new shape takes longer
    steps, started_at = 0, time.perf_counter()
    while True:
        trial.step(next(batches))
        steps += 1
        seconds = time.perf_counter() - started_at
        if steps >= MOST_STEPS or (steps >= FEWEST_STEPS and seconds >= least_s):
            return SizeMeasurement(size, steps * size / seconds, rest, memory.peak())


def _sizes(first: int, largest: int, parts: int) -> list[int]:
    """Return sizes that double, from well below the first up to the largest.

    The smallest has two images in each part that goes through the net, as BatchNorm needs them.
    """
    sizes = [first]
    while sizes[0] // 2 >= 2 * parts:
        sizes.insert(0, sizes[0] // 2)
    while 2 * sizes[-1] <= largest:
        sizes.append(2 * sizes[-1])
    return [size for size in sizes if size <= largest]


def _check_range(memory_gb: float | None, first: int, largest: int, parts: int) -> None:
    findings = []
    if memory_gb is not None and memory_gb <= 0:
        findings.append(f"memory_gb: {memory_gb:g} must be above 0")
    if not 2 * parts <= first <= largest:
        least = "2 <=" if parts == 1 else f"2 * gradient_accumulation = {2 * parts} <="
        findings.append(f"first {first}, largest {largest}: must be {least} first <= largest")
    if findings:
        raise ParamsError("wrong search for a batch size", findings)
