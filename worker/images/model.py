"""A checkpoint made ready to serve: verified, warmed up, and fast.

Importing this module imports torch, some two seconds: a worker without a model starts without it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import trainer
from worker.images.inference import for_inference, in_bfloat16

__all__ = ["Model", "ModelName", "load_model"]

Pixels = NDArray[np.uint8]
GREY = 2
MOST_NAMED = 12
"""Classes in an error message."""
WARM_UP_SIZES = (1, 64)
BFLOAT16_FROM = 8
"""Images in a batch from which bfloat16 is faster; a few take longer in it."""
UNSURE = 0.05
"""How close the two best classes are in bfloat16 where float32 might decide otherwise."""


@dataclass(frozen=True, slots=True)
class ModelName:
    """Which model made a prediction."""

    job: str
    epoch: int
    sha256: str


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
    """A classifier that serves; several threads may call it at a time.

    Where the processor or GPU computes in bfloat16, larger batches do. Probabilities then differ
    from float32's by less than 0.02, and images between two classes are classified again in
    float32, so that labels are the same.
    """

    def __init__(self, name: ModelName, checkpoint: trainer.Checkpoint) -> None:
        self.name = name
        self.class_names = list(checkpoint.class_names)
        params = checkpoint.params
        self.height, self.width = params.image_height, params.image_width
        self.is_colour = params.is_image_color
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._transform = checkpoint.transform()
        module = for_inference(checkpoint.classifier()).to(self._device)
        self._module = module.to(memory_format=torch.channels_last)
        self._in_bfloat16 = in_bfloat16(self._module) if has_bfloat16(self._device) else None

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
            x = self._transform(images.to(self._device))
            x = x.contiguous(memory_format=torch.channels_last)
            scores = self._classify_many(x) if len(x) >= BFLOAT16_FROM else self._module(x)
            result: NDArray[np.float32] = scores.cpu().numpy()
        return result

    def _classify_many(self, x: Tensor) -> Tensor:
        if self._in_bfloat16 is None:
            return cast("Tensor", self._module(x))
        scores: Tensor = self._in_bfloat16(x.to(torch.bfloat16))
        best, second = scores.topk(2, dim=1).values.unbind(dim=1)
        unsure = best - second < UNSURE
        if unsure.any():
            scores[unsure] = self._module(x[unsure])
        return scores


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the hardware multiplies in bfloat16; emulated, it is slower than float32."""
    if device.type == "cuda":
        has_native: bool = torch.cuda.is_bf16_supported(including_emulation=False)
        return has_native
    has_avx512_bf16: bool = torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001
    has_amx: bool = torch.cpu._is_amx_tile_supported()  # noqa: SLF001
    return has_avx512_bf16 or has_amx


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
    model = Model(ModelName(job, checkpoint.epoch, checkpoint.sha256), checkpoint)
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
