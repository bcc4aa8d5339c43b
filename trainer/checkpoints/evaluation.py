"""Tests a checkpoint on a split, and predicts single images with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trainer.checkpoints.checkpoint import Checkpoint, load_checkpoint
from trainer.data.dataset import Batches
from trainer.data.splits import open_split
from trainer.errors import ImageError
from trainer.metrics.figures import per_class
from trainer.metrics.meters import ScoreMeter
from trainer.net.precision import autocast_forward

BATCH = 256


@dataclass(frozen=True)
class Evaluation:
    """What a checkpoint makes of a split.

    Attributes:
        images: How many there are.
        metrics: `loss`, `accuracy`, macro `precision`, `recall` and `f1`, `auroc`,
            `calibration_error`.
        per_class: Precision, recall, F1 and number of images by class name.
        confusion: int64, `(n_classes, n_classes)`, rows are the true classes.
        class_names: One an index.
    """

    images: int
    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    confusion: Tensor
    class_names: list[str]


@dataclass(frozen=True)
class Prediction:
    """What a checkpoint makes of one image; `error` says why there is no label."""

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
        datadir: The folder that holds the split.
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
        for batch in batches.every(0, 1):
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
    """Predict image files, one after the other; a file that is no such image gives its error.

    Raises:
        CheckpointError: The checkpoint is bad.
    """
    checkpoint = _loaded(checkpoint)
    model, transform = checkpoint.classifier(), checkpoint.transform()
    reader = checkpoint.image_reader()
    remaining = iter(files)
    while some := list(islice(remaining, BATCH)):
        images, errors = {}, {}
        for file in some:
            try:
                images[file] = reader.read(Path(file))
            except ImageError as error:
                errors[file] = str(error)
        stacked = np.stack(list(images.values())) if images else np.zeros((0,), np.uint8)
        scores = model(transform(torch.from_numpy(stacked))) if images else torch.zeros(0)
        of_file = dict(zip(images, scores, strict=True))
        for file in some:
            yield _prediction(checkpoint.class_names, file, of_file.get(file), errors.get(file))


def _prediction(
    names: list[str], file: str | Path, scores: Tensor | None, error: str | None
) -> Prediction:
    if scores is None:
        return Prediction(str(file), None, None, {}, error)
    confidence, index = scores.max(0)
    probabilities = dict(zip(names, scores.tolist(), strict=True))
    return Prediction(str(file), names[int(index)], confidence.item(), probabilities)


def _loaded(checkpoint: Checkpoint | str | Path) -> Checkpoint:
    return checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
