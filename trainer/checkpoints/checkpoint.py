"""One checkpoint: a file that holds all to serve and all to go on, whole or refused.

The file is what `torch.save` writes (so `torch.load(path, weights_only=True)` reads it too), then
a trailer with the sha256 of all before it. It is only ever read with `weights_only`.
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

FORMAT = 1
TRAILER = b"darkroom-sha256:"
TRAILER_BYTES = len(TRAILER) + 64


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole.

    Attributes:
        path: The file.
        sha256: Of the whole file, in hex.
        epoch: How many epochs are done.
        class_names: One an index of the classifier's output.
        metrics: Of the last evaluation before it was saved.
        versions: Of Python and the libraries that wrote it.
        content: Everything in the file, as `trainer.run.state` gathered it.
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
        """The params of the run.

        Raises:
            CheckpointError: They do not hold here: a class or a transform that only the program
                that trained it had, or a device that is not there.
        """
        try:
            return Params.validate_all({**self.content["params"], "device": "cpu"})
        except ParamsError as error:
            raise CheckpointError(f"{self.path} cannot be used here: {error}") from error

    def classifier(self) -> Classifier:
        """Return the classifier in eval mode, on the CPU; its output is probabilities.

        Where the run kept a moving average of the weights, these are the averaged ones.

        Raises:
            CheckpointError: The weights are of another architecture than the params say.
        """
        model = new_classifier(self.params)
        try:
            average = self.content.get("ema")
            model.load_state_dict(average["weights"] if average else self.content["model"])
        except (RuntimeError, TypeError, KeyError) as error:
            raise CheckpointError(
                f"{self.path} holds weights of another net than its params describe: {error}"
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
    """Write a checkpoint so that at `path` there is the old file or the whole new one.

    Raises:
        OSError: The disk is full or the folder cannot be written; nothing is left behind.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getbuffer()
    trailer = TRAILER + hashlib.sha256(payload).hexdigest().encode()
    write_durably(path, payload, trailer)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read and check a checkpoint.

    Raises:
        CheckpointError: It is missing, cut short, altered, no checkpoint, or holds pickled code,
            which is refused without being run.
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
        raise CheckpointError(f"{path} is no checkpoint of the trainer: {error!r}") from error


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
        raise CheckpointError(f"{path} is damaged: its sha256 is {actual}, it says {expected}")
    return payload


def _content(path: Path, payload: memoryview) -> dict[str, Any]:
    try:
        content = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than weights and plain values, which may be code; refused"
        ) from error
    except Exception as error:
        raise CheckpointError(f"{path} is no checkpoint: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of the trainer (format {FORMAT})")
    return content
