"""A checkpoint made ready to serve: verified, warmed up, and fast.

Importing this module imports torch, some two seconds: a worker without a model starts without it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import trainer
from worker.images.model_id import ModelId

__all__ = ["Model", "load_model"]

Pixels = NDArray[np.uint8]
GREY = 2
MOST_NAMED = 12
"""Classes in an error message."""
WARM_UP_SIZES = (1, 64)


@dataclass(frozen=True, slots=True)
class Form:
    """What a model takes and what its predictions mean."""

    class_names: tuple[str, ...]
    height: int
    width: int
    is_colour: bool

    def __str__(self) -> str:
        """Describe it in an error message."""
        kind = "colour" if self.is_colour else "grey"
        classes = ", ".join(self.class_names[:MOST_NAMED])
        more = ", ..." if len(self.class_names) > MOST_NAMED else ""
        return (
            f"{len(self.class_names)} classes ({classes}{more}) "
            f"of {self.height}x{self.width} {kind} images"
        )


class Model:
    """A classifier that serves; several threads may call it at a time."""

    def __init__(self, model_id: ModelId, checkpoint: trainer.Checkpoint) -> None:
        self.id = model_id
        self.class_names = list(checkpoint.class_names)
        params = checkpoint.params
        self.height, self.width = params.image_height, params.image_width
        self.is_colour = params.is_image_color
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._transform = checkpoint.transform()
        self._classifier = checkpoint.fast_classifier(self._device)

    @property
    def form(self) -> Form:
        """What it takes and what its predictions mean."""
        return Form(tuple(self.class_names), self.height, self.width, self.is_colour)

    def fit(self, pixels: Pixels) -> Pixels:
        """Bring one image, HxW or HxWx3 (RGB) of any size, to the model's channels and size."""
        fitted: NDArray[Any] = pixels
        if self.is_colour and pixels.ndim == GREY:
            fitted = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
        elif not self.is_colour and pixels.ndim != GREY:
            fitted = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        height, width = fitted.shape[:2]
        if (height, width) != (self.height, self.width):
            shrinks = height * width > self.height * self.width
            method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            fitted = cv2.resize(fitted, (self.width, self.height), interpolation=method)
        return fitted

    def probabilities(self, batch: Pixels) -> NDArray[np.float32]:
        """Classify a batch of fitted images.

        Args:
            batch: NxHxW (grey) or NxHxWx3 (colour).

        Returns:
            NxC: the probability of each class, rows adding up to 1.
        """
        images = torch.from_numpy(batch if self.is_colour else batch[..., None])
        with torch.inference_mode():
            scores = self._classifier(self._transform(images.to(self._device)))
            result: NDArray[np.float32] = scores.cpu().numpy()
        return result


def load_model(path: Path, job: str, *, threads: int | None = None) -> Model:
    """Read a checkpoint, verify it, and run it once at the sizes that it will serve.

    Args:
        path: of the checkpoint.
        job: the name of the job that wrote it.
        threads: of the processor for one batch, in this process; by default as PyTorch has it.

    Raises:
        trainer.CheckpointError: the file is no good checkpoint, or its weights do not give
            probabilities.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    checkpoint = trainer.load_checkpoint(path)
    model = Model(ModelId(job, checkpoint.epoch, checkpoint.sha256), checkpoint)
    random = np.random.default_rng(0)
    for size in WARM_UP_SIZES:
        image = random.integers(0, 256, (model.height, model.width), np.uint8)
        scores = model.probabilities(np.stack([model.fit(image)] * size))
        expected = (size, len(model.class_names))
        if scores.shape != expected:
            raise trainer.CheckpointError(
                f"{path}: the model gives scores of shape {scores.shape}, not {expected}: "
                "its classes are not those of its class names; train it again"
            )
        if not np.allclose(scores.sum(axis=1), 1, atol=1e-3):  # NaN fails too
            raise trainer.CheckpointError(
                f"{path}: the model's scores are no probabilities (NaN, or not adding up to 1); "
                "deploy an earlier checkpoint"
            )
    return model
