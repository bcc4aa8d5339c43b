"""A checkpoint made ready to serve: verified, warmed up, and fast.

Importing this module imports torch, which takes some two seconds: a worker without a model starts
without it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import trainer
from worker.images.decode import Pixels
from worker.images.model_id import ModelId

__all__ = ["Model", "ModelForm", "load_model"]

MOST_NAMED = 12
"""Classes in an error message."""
WARM_UP_SIZES = (1, 64)


@dataclass(frozen=True, slots=True)
class ModelForm:
    """What a model takes and what its predictions mean."""

    class_names: tuple[str, ...]
    input_form: trainer.InputForm

    def __str__(self) -> str:
        """Describe it in an error message."""
        classes = ", ".join(self.class_names[:MOST_NAMED])
        more = ", ..." if len(self.class_names) > MOST_NAMED else ""
        return f"{len(self.class_names)} classes ({classes}{more}) of {self.input_form}"


class Model:
    """A classifier that serves; several threads may call it at a time."""

    def __init__(self, model_id: ModelId, checkpoint: trainer.Checkpoint) -> None:
        self.id = model_id
        self.class_names = list(checkpoint.class_names)
        self.input_form = checkpoint.input_form
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._transform = checkpoint.transform()
        self._classifier = checkpoint.fast_classifier(self._device)

    @property
    def form(self) -> ModelForm:
        """What it takes and what its predictions mean."""
        return ModelForm(tuple(self.class_names), self.input_form)

    def to_input(self, pixels: Pixels) -> NDArray[np.uint8]:
        """Bring one image of any size to the model's channels and size, HxWxC."""
        return trainer.to_input(pixels, self.input_form)

    def probabilities(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Classify a batch of inputs.

        Args:
            batch: NxHxWxC, each image from `to_input`.

        Returns:
            NxK: the probability of each class, rows adding up to 1.
        """
        with torch.inference_mode():
            x = self._transform(torch.from_numpy(batch).to(self._device))
            scores: NDArray[np.float32] = self._classifier(x).cpu().numpy()
        return scores


def load_model(path: Path, job: str, *, threads: int | None = None) -> Model:
    """Read a checkpoint, verify it, and run it once at the sizes that it will serve.

    Args:
        path: Checkpoint file.
        job: Name of the job that wrote it.
        threads: Threads of the processor for one batch, in this process; by default PyTorch's own.

    Raises:
        trainer.CheckpointError: The file is not a good checkpoint, or its weights do not give
            probabilities.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    checkpoint = trainer.load_checkpoint(path)
    model = Model(ModelId(job, checkpoint.epoch, checkpoint.sha256), checkpoint)
    form = model.input_form
    image = np.random.default_rng(0).integers(0, 256, (form.height, form.width), np.uint8)
    for size in WARM_UP_SIZES:
        scores = model.probabilities(np.stack([model.to_input(image)] * size))
        expected = (size, len(model.class_names))
        if scores.shape != expected:
            raise trainer.CheckpointError(
                f"{path}: the model gives scores of shape {scores.shape}, not {expected}: "
                "its classes are not those of its class names; train it again"
            )
        if not np.allclose(scores.sum(axis=1), 1, atol=1e-3):  # NaN fails too
            raise trainer.CheckpointError(
                f"{path}: the model's scores are not probabilities (NaN, or not adding up to 1); "
                "deploy an earlier checkpoint"
            )
    return model
