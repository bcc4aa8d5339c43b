"""Tests a checkpoint on a split, and predicts image files with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trainer.checkpoints.checkpoint import Checkpoint, load_checkpoint
from trainer.data.batches import Batches
from trainer.data.image_reader import ImageReader
from trainer.data.model_input import Image
from trainer.data.splits import open_split
from trainer.errors import ImageError
from trainer.metrics.figures import per_class
from trainer.metrics.meters import ScoreMeter
from trainer.net.precision import autocast_forward

__all__ = ["Evaluation", "Prediction", "evaluate", "predict"]

BATCH = 256
"""Images per forward pass."""


@dataclass(frozen=True)
class Evaluation:
    """How good a checkpoint is on a split.

    Attributes:
        images: Number of images.
        metrics: `loss`, `accuracy`, macro `precision`, `recall` and `f1`, `auroc`,
            `calibration_error`.
        per_class: Precision, recall, F1 and number of images by class name.
        confusion: int64, `(n_classes, n_classes)`, rows are the true classes.
        class_names: By index.
    """

    images: int
    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    confusion: Tensor
    class_names: list[str]


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image file.

    Attributes:
        file: As it was given.
        label: Name of the likeliest class; None when there is an error.
        confidence: Its probability.
        probabilities: By class name.
        error: Why there is no prediction.
    """

    file: str
    label: str | None
    confidence: float | None
    probabilities: dict[str, float]
    error: str | None = None


@torch.inference_mode()
def evaluate(
    checkpoint: Checkpoint | str | Path, datadir: str | Path, kind: str = "test"
) -> Evaluation:
    """Test a checkpoint on a split.

    Args:
        checkpoint: A checkpoint or its path.
        datadir: The folder that holds `train` and `test`.
        kind: "test" or "train".

    Raises:
        CheckpointError: The checkpoint is bad.
        DataError: The split is bad, or has labels that the checkpoint does not know.
    """
    checkpoint = _loaded(checkpoint)
    split = open_split(checkpoint.params, kind, datadir, checkpoint.class_names)
    model = checkpoint.logits_classifier()
    meter, total = ScoreMeter(len(split.class_names), checkpoint.params.metrics), 0.0
    batches = Batches(split, checkpoint.transform(), BATCH, seed=0)
    with autocast_forward(model, checkpoint.params.precision, "cpu"):
        for batch in batches.evaluation_batches():
            logits = model(batch.x).float()
            total += nn.functional.cross_entropy(logits, batch.y, reduction="sum").item()
            meter.update(logits, batch.y)
    rows = zip(split.class_names, per_class(meter.confusion), strict=True)
    return Evaluation(
        images=len(split),
        metrics={"loss": total / len(split), **meter.compute()},
        per_class=dict(rows),
        confusion=meter.confusion,
        class_names=list(split.class_names),
    )


@torch.inference_mode()
def predict(
    checkpoint: Checkpoint | str | Path, files: Iterable[str | Path]
) -> Iterator[Prediction]:
    """Yield a prediction for each image file; a file that cannot be used has an error instead.

    Raises:
        CheckpointError: The checkpoint is bad.
    """
    checkpoint = _loaded(checkpoint)
    model, transform = checkpoint.classifier(), checkpoint.transform()
    reader, remaining = checkpoint.image_reader(), iter(files)
    while chunk := list(islice(remaining, BATCH)):
        images, errors = _read(reader, chunk)
        if images:
            scores = model(transform(torch.from_numpy(np.stack(list(images.values())))))
            rows = dict(zip(images, scores, strict=True))
        for file in chunk:
            if file in errors:
                yield Prediction(str(file), None, None, {}, errors[file])
            else:
                yield _prediction(checkpoint.class_names, file, rows[file])


def _read(
    reader: ImageReader, files: Iterable[str | Path]
) -> tuple[dict[str | Path, Image], dict[str | Path, str]]:
    """Return the images by file, and the errors by file."""
    images, errors = {}, {}
    for file in files:
        try:
            images[file] = reader.read(Path(file))
        except ImageError as error:
            errors[file] = str(error)
    return images, errors


def _prediction(names: list[str], file: str | Path, scores: Tensor) -> Prediction:
    confidence, index = scores.max(0)
    probabilities = dict(zip(names, scores.tolist(), strict=True))
    return Prediction(str(file), names[int(index)], confidence.item(), probabilities)


def _loaded(checkpoint: Checkpoint | str | Path) -> Checkpoint:
    return checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
