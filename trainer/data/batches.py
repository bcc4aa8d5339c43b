"""The batches of a run: which images come when, with which flips, in which process."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.data.splits import Split
from trainer.data.transforms import Transforms
from trainer.machine.seeds import AUGMENT, ORDER, generator
from trainer.params.params import Params

__all__ = ["Batch", "Batches", "new_batches"]


class Batch(NamedTuple):
    """One batch of images, or the part of it that one of several processes gets.

    Attributes:
        x: Images, float32 `(n, c, h, w)`.
        y: Labels, int64 `(n,)`.
        indices: Indices into the split, int64 `(n,)`.
        share: This part's share of the whole batch; 1 with one process. It is 0 when the batch has
            fewer images than there are processes: then this process repeats one that is another's.
    """

    x: Tensor
    y: Tensor
    indices: Tensor
    share: float = 1.0


class Batches:
    """The batches of a split, epoch by epoch; order and flips depend on the seed and the place.

    Args:
        split: The images.
        transforms: Applied to a whole batch.
        size: Images per batch; the last batch of an epoch may be smaller.
        seed: With the epoch it decides the order, with epoch and batch the flips.
        shuffle: Whether each epoch has a new order; otherwise the order is that of info.csv.
        device: Where the batches are needed: "cpu", "cuda".
    """

    def __init__(
        self,
        split: Split,
        transforms: Transforms,
        size: int,
        *,
        seed: int,
        shuffle: bool = False,
        device: str = "cpu",
    ) -> None:
        self.split = split
        self._transforms = transforms
        self._size = size
        self._seed = seed
        self._shuffle = shuffle
        self._device = torch.device(device)

    def __len__(self) -> int:
        return math.ceil(len(self.split) / self._size)

    def training_batches(
        self, epoch: int, first: int = 0, rank: int = 0, n_processes: int = 1
    ) -> Iterator[Batch]:
        """Yield the batches of an epoch, each with the images of one process.

        Of each batch a process gets every n-th image, from the rank-th on; the flips are those that
        the whole batch would get.

        Args:
            epoch: Counts from 0.
            first: Number of the first batch to yield.
            rank: Number of this process.
            n_processes: Number of all processes.
        """
        order = self._order(epoch)
        for number in range(first, len(self)):
            whole = order[number * self._size : (number + 1) * self._size]
            mine = slice(rank, None, n_processes) if rank < len(whole) else slice(0, 1)
            share = len(whole[rank::n_processes]) / len(whole)
            pixels = self.split.pixels(whole[mine]).to(self._device, non_blocking=True)
            seeded = generator(self._seed, AUGMENT, epoch, number)
            draws = self._transforms.draws(len(whole), seeded)
            x = self._transforms(pixels, draws if draws is None else draws[:, mine])
            yield Batch(x, self.split.labels[whole[mine]].to(self._device), whole[mine], share)

    def evaluation_batches(self, rank: int = 0, n_processes: int = 1) -> Iterator[Batch]:
        """Yield the whole batches of one process: every n-th one, from the rank-th on."""
        for indices in self._evaluation_indices(rank, n_processes):
            x = self._transforms(self.split.pixels(indices).to(self._device))
            yield Batch(x, self.split.labels[indices].to(self._device), indices)

    def indices_by_rank(self, n_processes: int) -> Tensor:
        """Return the indices of `evaluation_batches` of all processes, rank after rank."""
        ranks = [self._evaluation_indices(rank, n_processes) for rank in range(n_processes)]
        return torch.cat([indices for batches in ranks for indices in batches])

    def _evaluation_indices(self, rank: int, n_processes: int) -> tuple[Tensor, ...]:
        return torch.split(self._order(0), self._size)[rank::n_processes]

    def _order(self, epoch: int) -> Tensor:
        if not self._shuffle:
            return torch.arange(len(self.split))
        return torch.randperm(len(self.split), generator=generator(self._seed, ORDER, epoch))


def new_batches(params: Params, split: Split, *, training: bool) -> Batches:
    """Return the batches of a split as params describe them, to train on or to test on."""
    return Batches(
        split,
        Transforms(params, training=training),
        params.batch_size if training else params.eval_batch_size,
        seed=params.manual_seed,
        shuffle=training and params.shuffle_dataset,
        device=params.device,
    )
