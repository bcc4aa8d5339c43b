"""A split as torch's Dataset and DataLoader; the published way to the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainer.data.splits import open_split
from trainer.data.transforms import Transforms
from trainer.params.params import Params

__all__ = ["FashionMNIST", "get_dataloader"]

Kind: TypeAlias = Literal["train", "test"]


class Samples(Sequence[tuple[Tensor, Tensor]]):
    """The samples of one batch, which stay together until a single one is asked for.

    Args:
        x: Images, float32 `(n, c, h, w)`.
        y: Labels, int64 `(n,)`.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x = x
        self.y = y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: Any) -> Any:
        return self.x[index], self.y[index]

    @staticmethod
    def collate(samples: Any) -> tuple[Tensor, Tensor]:
        """Return the batch as it is, for a DataLoader."""
        return samples.x, samples.y


class FashionMNIST(Dataset[tuple[Tensor, Tensor]]):
    """A split as a Dataset: images as float32 `(c, h, w)` and labels as int64.

    Args:
        params: The published dict or validated params.
        kind: "train" (with flips if params say so) or "test".
        datadir: The folder that holds `train` and `test`.

    Raises:
        ParamsError: The params are wrong.
        DataError: The split is bad; every problem is listed.
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
        samples = self.__getitems__([range(len(self))[index]])
        return samples.x[0], samples.y[0]

    def __getitems__(self, indices: Sequence[int]) -> Samples:
        """Return the samples of a DataLoader's batch, with one index and one transform."""
        rows = torch.from_numpy(np.asarray(indices, dtype=np.int64))
        return Samples(self._transforms(self.split.pixels(rows)), self.split.labels[rows])


def get_dataloader(
    params: Mapping[str, Any] | Params, kind: Kind, datadir: str | Path = "data"
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return a DataLoader that makes each batch with one index and one transform.

    Args:
        params: The published dict or validated params. `batch_size` holds for "train",
            `eval_batch_size` for "test"; only "train" is shuffled, if `shuffle_dataset` says so,
            seeded with `manual_seed`.
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
        collate_fn=Samples.collate,
        generator=torch.Generator().manual_seed(params.manual_seed),
    )
