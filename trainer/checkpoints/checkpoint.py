"""One checkpoint: a file with everything to serve and to resume; damaged files are refused.

The file is what `torch.save` writes (so `torch.load(path, weights_only=True)` reads it too), then
a trailer with the sha256 of everything before it. It is only read with `weights_only`.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainer.data.image_reader import ImageReader
from trainer.data.model_input import InputForm
from trainer.data.transforms import Transforms
from trainer.errors import CheckpointError, ParamsError
from trainer.machine.durable import write_durably
from trainer.net.classifier import Classifier, Logits, new_classifier
from trainer.net.fast_inference import FastClassifier
from trainer.params.params import Params

__all__ = ["FORMAT", "TRAILER", "Checkpoint", "load_checkpoint", "write_checkpoint"]

FORMAT = 1
TRAILER = b"darkroom-sha256:"
TRAILER_BYTES = len(TRAILER) + 64


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read, and is complete and undamaged.

    Attributes:
        path: The file.
        sha256: Hash of the whole file, in hex.
        epoch: Number of epochs that are done.
        class_names: By index of the classifier's output.
        metrics: Figures of the last evaluation before it was saved.
        versions: Versions of Python and of the libraries that wrote it.
        content: Everything in the file, as `trainer.run.state` collects it.
    """

    path: Path
    sha256: str
    epoch: int
    class_names: list[str]
    metrics: dict[str, float]
    versions: dict[str, str]
    content: dict[str, Any]

    @cached_property
    def params(self) -> Params:
        """The params of the run that describe the classifier; `content["params"]` has them all.

        Raises:
            CheckpointError: They cannot be used here: a class or a transform exists only in the
                program that trained it.
        """
        try:
            return Params.of_trained({**self.content["params"], "device": "cpu"})
        except ParamsError as error:
            raise CheckpointError(f"{self.path} cannot be used here: {error}") from error

    def classifier(self) -> Classifier:
        """Return the classifier in eval mode, on the CPU; its output is probabilities.

        If the run kept a moving average of the weights, the classifier has the averaged ones.

        Raises:
            CheckpointError: The weights do not fit the net that the params describe.
        """
        try:
            average = self.content.get("ema")
            weights = average["weights"] if average else self.content["model"]
            model = new_classifier(self.params, features=weights["head.weight"].shape[1])
            model.load_state_dict(weights)
        except (RuntimeError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise CheckpointError(
                f"{self.path} holds weights that do not fit its params: {error}"
            ) from error
        return model.eval()

    def logits_classifier(self) -> nn.Module:
        """Return the classifier without its final Softmax, in eval mode, on the CPU."""
        return Logits(self.classifier()).eval()

    def fast_classifier(self, device: str = "cpu") -> FastClassifier:
        """Return the classifier for serving; its probabilities are within 0.02 of `classifier`'s.

        Args:
            device: Where it computes: "cpu", "cuda", "cuda:1".
        """
        return FastClassifier(self.classifier(), device)

    @property
    def input_form(self) -> InputForm:
        """Size and channels of the images that the classifier takes, for `trainer.to_input`."""
        return InputForm.of(self.params)

    def image_reader(self) -> ImageReader:
        """Return what reads image files as the classifier takes them; sizes as in training."""
        return ImageReader(self.input_form, resize=self.params.resize_images)

    def transform(self) -> Transforms:
        """Return what turns uint8 images `(n, h, w, c)` into the net's float `(n, c, h, w)`."""
        return Transforms(self.params)


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint; at every moment `path` is the old file or the complete new one.

    Raises:
        OSError: The disk is full or the folder cannot be written; no partial file is left.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getbuffer()
    trailer = TRAILER + hashlib.sha256(payload).hexdigest().encode()
    write_durably(path, payload, trailer)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read and check a checkpoint.

    Raises:
        CheckpointError: The file is missing, cut short, altered or not a checkpoint, or it holds
            pickled code, which is refused without being run.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    content = _content(path, _payload(path, data))
    try:
        return Checkpoint(
            path=path,
            sha256=hashlib.sha256(data).hexdigest(),
            epoch=int(content["position"]["epoch"]),
            class_names=[str(name) for name in content["class_names"]],
            metrics=dict(content["metrics"]),
            versions=dict(content["versions"]),
            content=content | {"params": dict(content["params"])},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of the trainer: {error!r}") from error


def _payload(path: Path, data: bytes) -> memoryview:
    trailer = data[-TRAILER_BYTES:]
    if not trailer.startswith(TRAILER):
        raise CheckpointError(
            f"{path} ({len(data)} bytes) is cut short or was not written by the trainer: "
            "its sha256 is missing at the end"
        )
    payload = memoryview(data)[:-TRAILER_BYTES]
    expected = trailer[len(TRAILER) :].decode("ascii", "replace")
    actual = hashlib.sha256(payload).hexdigest()
    if actual != expected:
        raise CheckpointError(
            f"{path} is damaged: its sha256 is {actual}, but the file says {expected}"
        )
    return payload


def _content(path: Path, payload: memoryview) -> dict[str, Any]:
    try:
        content = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than weights and plain values, which may be code; refused"
        ) from error
    except Exception as error:
        raise CheckpointError(f"{path} is not a checkpoint: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of the trainer (format {FORMAT})")
    return content
