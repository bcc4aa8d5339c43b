"""A split as a Dataset, as a DataLoader, and as the batches of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainer.data.splits import Split, open_split
from trainer.data.transforms import Transforms
from trainer.machine.seeds import AUGMENT, ORDER, generator
from trainer.params.params import Params

Kind = Literal["train", "test"]


class Batch(NamedTuple):
    """One batch: `x` float32 `(n, c, h, w)`, `y` int64 `(n,)`, `indices` into the split.

    `share` is how much of the whole batch it is: 1 unless there are several processes; 0 when the
    batch has fewer images than there are processes and this one has another's in its place.
    """

    x: Tensor
    y: Tensor
    indices: Tensor
    share: float = 1.0


class Batches:
    """The batches of a split, epoch for epoch; which images and which flips depends on the place.

    Args:
        split: The images.
        transforms: Applied to a whole batch.
        size: Images a batch; the last one of an epoch may be smaller.
        seed: With the epoch it decides the order, with epoch and batch the flips.
        shuffle: Whether the order is new in each epoch; else it is that of info.csv.
        device: Where the batch goes.
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

    def epoch(self, epoch: int, first: int = 0, rank: int = 0, size: int = 1) -> Iterator[Batch]:
        """Yield the batches of an epoch, from the batch numbered `first` on.

        With `size` processes each gets every size-th image of each batch, from the rank-th on; the
        flips are those that the whole batch would get.
        """
        order = self._order(epoch)
        for number in range(first, len(self)):
            whole = order[number * self._size : (number + 1) * self._size]
            mine = slice(rank, None, size) if rank < len(whole) else slice(0, 1)
            share = len(whole[rank::size]) / len(whole)
            pixels = self.split.pixels(whole[mine]).to(self._device, non_blocking=True)
            draws = self._transforms.draws(
                len(whole), generator(self._seed, AUGMENT, epoch, number)
            )
            x = self._transforms(pixels, draws if draws is None else draws[:, mine])
            yield Batch(x, self.split.labels[whole[mine]].to(self._device), whole[mine], share)

    def every(self, rank: int, size: int) -> Iterator[Batch]:
        """Yield the first epoch's batches whose number is the rank, counted by `size`."""
        order = self._order(0)
        for number in range(rank, len(self), size):
            indices = order[number * self._size : (number + 1) * self._size]
            x = self._transforms(self.split.pixels(indices).to(self._device))
            yield Batch(x, self.split.labels[indices].to(self._device), indices)

    def told_by_all(self, size: int) -> Tensor:
        """Return the indices that `every` gives to so many processes, rank after rank."""
        batches = torch.split(self._order(0), self._size)
        return torch.cat([batch for rank in range(size) for batch in batches[rank::size]])

    def _order(self, epoch: int) -> Tensor:
        if not self._shuffle:
            return torch.arange(len(self.split))
        return torch.randperm(len(self.split), generator=generator(self._seed, ORDER, epoch))


class Rows(Sequence[tuple[Tensor, Tensor]]):
    """The samples of one batch, which stay together until somebody asks for a single one."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x = x
        self.y = y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: Any) -> Any:
        return self.x[index], self.y[index]

    @staticmethod
    def whole(rows: Any) -> tuple[Tensor, Tensor]:
        """Collate: return the batch as it is."""
        return rows.x, rows.y


class FashionMNIST(Dataset[tuple[Tensor, Tensor]]):
    """A split as a Dataset: images as float32 `(c, h, w)` and labels as int64.

    Args:
        params: The published dict or validated params.
        kind: "train" (with flips where params say so) or "test".
        datadir: The folder that holds `train` and `test`.

    Raises:
        ParamsError: The params are wrong.
        DataError: The split is bad; everything found is listed.
    """

    def __init__(
        self, params: Mapping[str, Any] | Params, kind: Kind, datadir: str | Path = "data"
    ) -> None:
        self.params = Params.validate_all(params)
        self.split = open_split(self.params, kind, datadir)
        self.class_names = self.split.class_names
        self._transforms = Transforms(self.params, training=kind == "train")

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rows = self.__getitems__([range(len(self))[index]])
        return rows.x[0], rows.y[0]

    def __getitems__(self, indices: Sequence[int]) -> Rows:
        """Return several samples by one index and one transform, as DataLoader asks for them."""
        chosen = torch.from_numpy(np.asarray(indices, dtype=np.int64))
        return Rows(self._transforms(self.split.pixels(chosen)), self.split.labels[chosen])


def get_dataloader(
    params: Mapping[str, Any] | Params, kind: Kind, datadir: str | Path = "data"
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return a DataLoader whose batches are one index and one transform.

    Args:
        params: `batch_size` counts for "train", `eval_batch_size` for "test"; only "train" is
            shuffled, where `shuffle_dataset` says so, seeded with `manual_seed`.
        kind: "train" or "test".
        datadir: The folder that holds `train` and `test`.

    Returns:
        Batches of float32 `(n, c, h, w)` and int64 `(n,)`.

    Raises:
        ParamsError: The params are wrong.
        DataError: The split is bad.
    """
    params = Params.validate_all(params)
    training = kind == "train"
    return DataLoader(
        FashionMNIST(params, kind, datadir),
        batch_size=params.batch_size if training else params.eval_batch_size,
        shuffle=training and params.shuffle_dataset,
        collate_fn=Rows.whole,
        generator=torch.Generator().manual_seed(params.manual_seed),
    )
