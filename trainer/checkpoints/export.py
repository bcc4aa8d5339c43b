"""A checkpoint as a file that runs without the trainer, checked on real images first.

The exported model contains the transforms: it takes images as `to_input` returns them and computes
probabilities, so that scaling and normalisation need not be repeated elsewhere.
"""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from trainer.checkpoints.checkpoint import Checkpoint, load_checkpoint
from trainer.errors import CheckpointError, TrainerError
from trainer.machine.durable import write_durably

__all__ = ["EXTRA_FILE", "ExportResult", "Exported", "export"]

Format: TypeAlias = Literal["onnx", "torch-export"]
ENDINGS: dict[str, Format] = {".onnx": "onnx", ".pt2": "torch-export"}
INPUT, OUTPUT = "images", "probabilities"
EXTRA_FILE = "darkroom.json"
NEEDS = {"onnx": ("onnx", "onnxruntime", "onnxscript"), "torch-export": ()}
TOLERANCE = 1e-4
Model: TypeAlias = Callable[[Tensor], Tensor]
"""Returns probabilities `(n, n_classes)` for uint8 images `(n, h, w, c)`."""


@dataclass(frozen=True)
class ExportResult:
    """A file that was written, and how it compares with the checkpoint.

    Attributes:
        path: The file.
        form: "onnx" or "torch-export".
        images: Number of images that both were run on.
        largest_difference: Largest difference between two probabilities of any image.
    """

    path: Path
    form: Format
    images: int
    largest_difference: float


Exported = ExportResult
"""The earlier name, which stays published."""


class Deployable(nn.Module):
    """Transforms and classifier in one: takes uint8 `(n, h, w, c)`, returns probabilities."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.classifier = checkpoint.classifier()
        self.transform = checkpoint.transform()

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities `(n, n_classes)` for uint8 images `(n, h, w, c)`."""
        probabilities: Tensor = self.classifier(self.transform(images))
        return probabilities


def export(
    checkpoint: Checkpoint | str | Path,
    path: str | Path,
    images: Tensor,
    *,
    form: Format | None = None,
    tolerance: float = TOLERANCE,
) -> ExportResult:
    """Export a checkpoint; the file is written only if it computes what the checkpoint computes.

    Args:
        checkpoint: A checkpoint or its path.
        path: The file to write.
        images: At least one, as `to_input` returns them: uint8 `(n, h, w, c)`. Both models must
            agree on them, all together and the first alone.
        form: "onnx" or "torch-export"; by default the ending of `path` decides (.onnx, .pt2).
        tolerance: Largest difference between two probabilities that is accepted.

    Raises:
        CheckpointError: The checkpoint is bad, or its transforms cannot be exported.
        TrainerError: The format is unknown or its packages are missing; there are no images; the
            exported model predicts another label or differs by more than the tolerance; or the file
            cannot be written.
    """
    path = Path(path)
    form = form or _form_of(path)
    _require(form)
    if not len(images):
        raise TrainerError("no images to check the exported model on; give at least one")
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = load_checkpoint(checkpoint)
    model = Deployable(checkpoint).eval()
    data = _converted(checkpoint, model, images, form)
    load = _load_onnx if form == "onnx" else _load_torch_export
    difference = _compared(model, load(data), images, tolerance)
    try:
        write_durably(path, data)
    except OSError as error:
        raise TrainerError(f"{path} cannot be written: {error.strerror or error}") from error
    return ExportResult(path, form, len(images), difference)


def _converted(checkpoint: Checkpoint, model: nn.Module, images: Tensor, form: Format) -> bytes:
    """Return the file's content.

    Raises:
        CheckpointError: The model cannot be converted.
    """
    about = {
        "class_names": json.dumps(checkpoint.class_names),
        "epoch": str(checkpoint.epoch),
        "checkpoint_sha256": checkpoint.sha256,
    }
    convert = _onnx if form == "onnx" else _torch_export
    try:
        return convert(model, images, about)
    except Exception as error:
        raise CheckpointError(
            f"{checkpoint.path} cannot be exported to {form}: {str(error).strip()[:500]}; "
            "an additional transform or a layer may not be supported by this format"
        ) from error


def _form_of(path: Path) -> Format:
    if path.suffix not in ENDINGS:
        raise TrainerError(f"{path}: name the format, or end the file in {' or '.join(ENDINGS)}")
    return ENDINGS[path.suffix]


def _require(form: Format) -> None:
    missing = [name for name in NEEDS[form] if importlib.util.find_spec(name) is None]
    if missing:
        raise TrainerError(
            f"{form} needs {', '.join(missing)}, not installed: pip install 'darkroom[export]'"
        )


def _program(model: nn.Module, images: Tensor) -> torch.export.ExportedProgram:
    # Two images: torch treats a size of 1 in its example as a constant.
    example = images[:1].repeat(2, 1, 1, 1)
    return torch.export.export(
        model, (example,), dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}}
    )


def _torch_export(model: nn.Module, images: Tensor, about: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    extra = {EXTRA_FILE: json.dumps(about)}
    torch.export.save(_program(model, images), buffer, extra_files=extra)
    return buffer.getvalue()


def _load_torch_export(data: bytes) -> Model:
    return torch.export.load(io.BytesIO(data)).module()


def _onnx(model: nn.Module, images: Tensor, about: dict[str, str]) -> bytes:
    import onnx  # noqa: PLC0415 - in an extra

    program = torch.onnx.export(
        _program(model, images),
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, about)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    data: bytes = proto.SerializeToString()
    return data


def _load_onnx(data: bytes) -> Model:
    import onnxruntime  # noqa: PLC0415 - in an extra

    session: Any = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


@torch.inference_mode()
def _compared(model: nn.Module, exported: Model, images: Tensor, tolerance: float) -> float:
    """Return the largest difference, on all images together and on the first alone.

    Raises:
        TrainerError: A label differs, or a probability by more than the tolerance.
    """
    pairs: Sequence[tuple[Tensor, Tensor]] = [
        (model(some), exported(some)) for some in (images, images[:1])
    ]
    differences = [float((right - other).abs().max()) for right, other in pairs]
    changed = max(int((right.argmax(1) != other.argmax(1)).sum()) for right, other in pairs)
    # Each by itself: max() ignores a difference that is not a number.
    if changed or not all(difference <= tolerance for difference in differences):
        raise TrainerError(
            f"the exported model differs from the checkpoint: {changed} of {len(images)} images "
            f"get another label, and a probability differs by {max(differences):.2g}, "
            f"allowed: {tolerance:.2g}; nothing was written"
        )
    return max(differences)
