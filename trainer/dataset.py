"""The images and labels of a split, as a Dataset, as a DataLoader, and as the batches of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainer.errors import DataError
from trainer.images import ImageMap, open_images
from trainer.labels import class_names, outside, read_table
from trainer.params import Params
from trainer.seeds import generator
from trainer.transforms import Transforms

Kind = Literal["train", "test"]
ORDER, AUGMENT, HELD_OUT = 1, 2, 3  # streams of random numbers that must not coincide


@dataclass(frozen=True)
class Split:
    """A split, ready to be indexed.

    Attributes:
        images: uint8, `(n, height, width, channels)`, of all files that info.csv lists.
        rows: int64, `(n,)`, which of them the split has.
        labels: int64, `(n,)`, indices into `class_names`.
        class_names: One an index.
        files: File names, as info.csv lists them.
    """

    images: ImageMap
    rows: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    files: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def pixels(self, indices: Tensor) -> Tensor:
        """Return stored images, uint8 `(n, height, width, channels)`."""
        return torch.from_numpy(self.images.take(self.rows[indices].numpy()))

    def part(self, chosen: Tensor) -> Split:
        """Return a split of some of this one's images, by index."""
        files = tuple(self.files[index] for index in chosen)
        return replace(self, rows=self.rows[chosen], labels=self.labels[chosen], files=files)


def open_split(
    params: Params, kind: str, datadir: str | Path, names: Sequence[str] | None = None
) -> Split:
    """Open one split.

    Args:
        params: The image size, channels and number of classes that the data must have.
        kind: "train" or "test".
        datadir: The folder that holds `train` and `test`.
        names: The classes, one an index; those of the training split when not given.

    Raises:
        DataError: With everything that is wrong with the split.
    """
    if kind not in {"train", "test"}:
        raise DataError("bad data", [f"kind is {kind!r}; allowed: train, test"])
    root = Path(datadir)
    table = read_table(root / kind)
    findings: list[str] = []
    try:
        if names is None:
            known = table if kind == "train" else read_table(root / "train")
            names = class_names(known, params.n_classes)
        findings += outside(table, names)
    except DataError as error:
        findings += error.findings
    try:
        channels, height, width = params.image_shape
        images = open_images(table, (height, width, channels), resize=params.resize_images)
    except DataError as error:
        raise DataError("bad data", [*findings, *error.findings]) from error
    if findings or names is None:
        raise DataError("bad data", findings)
    index = {name: number for number, name in enumerate(names)}
    labels = torch.tensor([index[label] for label in table.labels])
    return Split(images, torch.arange(len(labels)), labels, tuple(names), table.files)


def open_splits(params: Params, datadir: str | Path) -> tuple[Split, Split]:
    """Open the training and the test split.

    With `validation_split` the test split is that share of each class's training images, drawn by
    the seed, and the test folder is left alone.

    Raises:
        DataError: With everything that is wrong with either, in one report.
    """
    if params.validation_split:
        return held_out(open_split(params, "train", datadir), params)
    opened, findings = [], dict[str, None]()
    for kind in ("train", "test"):
        try:
            opened.append(open_split(params, kind, datadir))
        except DataError as error:
            findings.update(dict.fromkeys(error.findings))
    if len(opened) == 1 and not (Path(datadir) / "test").exists():
        findings["or hold out some of the training images, say validation_split=0.2"] = None
    if findings:
        raise DataError(f"the data in {datadir} cannot be used", list(findings))
    train, test = opened
    return train, test


def held_out(split: Split, params: Params) -> tuple[Split, Split]:
    """Return a split without and with the images to test on, the same share of every class.

    Raises:
        DataError: A class has too few images to be in both.
    """
    folds = stratified(split.labels, params.manual_seed)
    kept, tested, findings = [], [], []
    for index, rows in folds.items():
        n_tested = max(round(len(rows) * params.validation_split), 1)
        if n_tested >= len(rows):
            name = split.class_names[index]
            findings.append(f"class {name} has {len(rows)} images, too few to hold some out")
        tested.append(rows[:n_tested])
        kept.append(rows[n_tested:])
    if findings:
        raise DataError("validation_split cannot be made", findings)
    return split.part(torch.cat(kept).sort()[0]), split.part(torch.cat(tested).sort()[0])


def stratified(labels: Tensor, seed: int) -> dict[int, Tensor]:
    """Return each class's rows in an order drawn by the seed."""
    draws = generator(seed, HELD_OUT)
    return {
        index: rows[torch.randperm(len(rows), generator=draws)]
        for index in sorted(set(labels.tolist()))
        if len(rows := (labels == index).nonzero().flatten())
    }


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
