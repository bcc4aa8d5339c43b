"""A split: its images, labels and class names, read from a folder or held out of another split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from trainer.data.decoding_pool import OnProgress, no_progress
from trainer.data.image_map import ImageMap, open_images
from trainer.data.model_input import InputForm
from trainer.data.table import Table, class_names, read_table, unknown_labels
from trainer.errors import DataError
from trainer.machine.seeds import HELD_OUT, generator
from trainer.params.params import Params

__all__ = ["Split", "folds", "held_out", "open_split", "open_splits"]


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    Attributes:
        images: All images that info.csv lists, uint8 `(n, height, width, channels)`.
        rows: Rows of `images` that belong to this split, int64 `(n,)`.
        labels: Indices into `class_names`, int64 `(n,)`.
        class_names: By index.
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
        """Return images by index, uint8 `(n, height, width, channels)`."""
        return torch.from_numpy(self.images.take(self.rows[indices].numpy()))

    def part(self, chosen: Tensor) -> Split:
        """Return a split with some of the images, by index."""
        files = tuple(self.files[index] for index in chosen)
        return replace(self, rows=self.rows[chosen], labels=self.labels[chosen], files=files)


def open_split(
    params: Params,
    kind: str,
    datadir: str | Path,
    names: Sequence[str] | None = None,
    *,
    on_progress: OnProgress = no_progress,
) -> Split:
    """Open one split.

    Args:
        params: The image size, channels and number of classes that the data must have.
        kind: "train" or "test".
        datadir: The folder that holds `train` and `test`.
        names: The classes by index; those of the training split when not given.
        on_progress: Called while images are decoded; whatever it raises ends the opening.

    Raises:
        DataError: With everything that is wrong with the split.
    """
    if kind not in {"train", "test"}:
        raise DataError("bad data", [f"kind is {kind!r}; allowed: train, test"])
    root = Path(datadir)
    table = read_table(root / kind)
    findings = list(table.findings)
    try:
        names = names or _class_names(table, root, params)
        findings += unknown_labels(table, names)
    except DataError as error:
        findings += error.findings
    try:
        form = InputForm.of(params)
        images = open_images(table, form, resize=params.resize_images, on_progress=on_progress)
    except DataError as error:
        raise DataError("bad data", [*findings, *error.findings]) from error
    if findings or names is None:
        raise DataError("bad data", findings)
    index = {name: number for number, name in enumerate(names)}
    labels = torch.tensor([index[label] for label in table.labels])
    return Split(images, torch.arange(len(labels)), labels, tuple(names), table.files)


def _class_names(table: Table, datadir: Path, params: Params) -> list[str]:
    """Return the classes of the training split; `table` is that of the split being opened."""
    is_training = table.path.parent == datadir / "train"
    return class_names(table if is_training else read_table(datadir / "train"), params.n_classes)


def open_splits(
    params: Params, datadir: str | Path, on_progress: OnProgress = no_progress
) -> tuple[Split, Split]:
    """Open the training and the test split.

    With `validation_split` the test split is that share of each class's training images, drawn by
    the seed, and the test folder is left alone.

    Args:
        params: As in `open_split`.
        datadir: The folder that holds `train` and `test`.
        on_progress: Called while images are decoded; whatever it raises ends the opening.

    Raises:
        DataError: With everything that is wrong with either, in one report.
    """
    if params.validation_split:
        return held_out(open_split(params, "train", datadir, on_progress=on_progress), params)
    splits, findings = [], dict[str, None]()
    for kind in ("train", "test"):
        try:
            splits.append(open_split(params, kind, datadir, on_progress=on_progress))
        except DataError as error:
            findings.update(dict.fromkeys(error.findings))
    if len(splits) == 1 and not (Path(datadir) / "test").exists():
        findings["or hold out some of the training images, say validation_split=0.2"] = None
    if len(splits) == 2:
        findings.update(dict.fromkeys(_never_seen(splits[0], splits[1], datadir)))
    if findings:
        raise DataError(f"the data in {datadir} cannot be used", list(findings))
    train, test = splits
    return train, test


def _never_seen(train: Split, test: Split, datadir: str | Path) -> list[str]:
    """Return a finding for every class that has test images and no training image."""
    lacking = set(test.labels.tolist()) - set(train.labels.tolist())
    return [
        f"{Path(datadir) / 'test'} has images of the class {train.class_names[index]}, of which "
        f"{Path(datadir) / 'train'} has none"
        for index in sorted(lacking)
    ]


def held_out(split: Split, params: Params) -> tuple[Split, Split]:
    """Divide a split into training and test images, with the same share of every class.

    Raises:
        DataError: A class has too few images to be in both parts.
    """
    classes = stratified(split.labels, params.manual_seed)
    train_rows, test_rows, findings = [], [], []
    for index, rows in classes.items():
        n_test = max(round(len(rows) * params.validation_split), 1)
        if n_test >= len(rows):
            name = split.class_names[index]
            findings.append(f"class {name} has {len(rows)} images, too few to hold some out")
        test_rows.append(rows[:n_test])
        train_rows.append(rows[n_test:])
    if findings:
        raise DataError("validation_split cannot be made", findings)
    train, test = (torch.cat(rows).sort()[0] for rows in (train_rows, test_rows))
    return split.part(train), split.part(test)


def folds(split: Split, count: int, seed: int) -> list[tuple[Split, Split]]:
    """Return pairs of training and test images; each image is a test image in one pair.

    The images are dealt out class by class in an order drawn by the seed. So the folds differ by
    one image at most, in all and in each class.

    Raises:
        DataError: A class has fewer images than there are folds.
    """
    classes = stratified(split.labels, seed)
    findings = [
        f"class {split.class_names[index]} has {len(rows)} images, fewer than {count} folds"
        for index, rows in classes.items()
        if len(rows) < count
    ]
    if findings:
        raise DataError("folds cannot be made", findings)
    fold_of = torch.empty(len(split), dtype=torch.int64)
    fold_of[torch.cat(list(classes.values()))] = torch.arange(len(split)) % count
    numbers = [fold_of == number for number in range(count)]
    return [(split.part(_rows(~tested)), split.part(_rows(tested))) for tested in numbers]


def _rows(chosen: Tensor) -> Tensor:
    return chosen.nonzero().flatten()


def stratified(labels: Tensor, seed: int) -> dict[int, Tensor]:
    """Return the rows of each class in an order drawn by the seed."""
    draws = generator(seed, HELD_OUT)
    return {
        index: rows[torch.randperm(len(rows), generator=draws)]
        for index in sorted(set(labels.tolist()))
        if len(rows := (labels == index).nonzero().flatten())
    }
