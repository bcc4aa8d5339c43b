"""A checkpoint as a file that runs without the trainer, checked on real images first.

The exported model has the transforms in it: it takes images as they are stored and gives
probabilities, so that nobody has to repeat the scaling and normalisation elsewhere.
"""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainer.checkpoints.checkpoint import Checkpoint, load_checkpoint
from trainer.errors import CheckpointError, TrainerError
from trainer.machine.durable import write_durably

Format = Literal["onnx", "torch-export"]
ENDINGS: dict[str, Format] = {".onnx": "onnx", ".pt2": "torch-export"}
INPUT, OUTPUT = "images", "probabilities"
EXTRA_FILE = "darkroom.json"
NEEDS = {"onnx": ("onnx", "onnxruntime", "onnxscript"), "torch-export": ()}
TOLERANCE = 1e-4
Runs = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Exported:
    """A file that was written, and how it compares with the checkpoint.

    Attributes:
        path: The file.
        form: "onnx" or "torch-export".
        images: How many images both were tried on.
        largest_difference: Of any probability of any image.
    """

    path: Path
    form: Format
    images: int
    largest_difference: float


class Deployable(nn.Module):
    """Transforms and classifier in one: uint8 `(n, h, w, c)` in, probabilities out."""

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
) -> Exported:
    """Export a checkpoint, and write it only when it gives what the checkpoint gives.

    Args:
        checkpoint: A checkpoint or its path.
        path: The file to write.
        images: uint8 `(n, h, w, c)`, at least one: both must agree on them, alone and together.
        form: "onnx" or "torch-export"; by the ending of `path` (.onnx, .pt2) when not given.
        tolerance: The largest difference of a probability that is let through.

    Raises:
        CheckpointError: The checkpoint is bad, or its transforms cannot be exported.
        TrainerError: The format is unknown or its packages are missing; there are no images; the
            exported model gives another label or differs by more than the
            tolerance (then nothing was written); the file cannot be written.
    """
    path = Path(path)
    form = form or _form_of(path)
    _require(form)
    if not len(images):
        raise TrainerError("no images to check the exported model on; give at least one")
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = load_checkpoint(checkpoint)
    model = Deployable(checkpoint).eval()
    about = {
        "class_names": json.dumps(checkpoint.class_names),
        "epoch": str(checkpoint.epoch),
        "checkpoint_sha256": checkpoint.sha256,
    }
    make, load = (_onnx, _run_onnx) if form == "onnx" else (_torch_export, _run_torch_export)
    try:
        data = make(model, images, about)
    except Exception as error:
        raise CheckpointError(
            f"{checkpoint.path} cannot be exported to {form}: {str(error).strip()[:500]}; "
            "an additional transform or a layer may have no such form"
        ) from error
    difference = _compared(model, load(data), images, tolerance)
    try:
        write_durably(path, data)
    except OSError as error:
        raise TrainerError(f"{path} cannot be written: {error.strerror or error}") from error
    return Exported(path, form, len(images), difference)


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
    # Two images: torch takes a size of 1 in its example for a constant.
    example = images[:1].repeat(2, 1, 1, 1)
    return torch.export.export(
        model, (example,), dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}}
    )


def _torch_export(model: nn.Module, images: Tensor, about: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    extra = {EXTRA_FILE: json.dumps(about)}
    torch.export.save(_program(model, images), buffer, extra_files=extra)
    return buffer.getvalue()


def _run_torch_export(data: bytes) -> Runs:
    return torch.export.load(io.BytesIO(data)).module()


def _onnx(model: nn.Module, images: Tensor, about: dict[str, str]) -> bytes:
    import onnx  # noqa: PLC0415 - of an extra

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


def _run_onnx(data: bytes) -> Runs:
    import onnxruntime  # noqa: PLC0415 - of an extra

    session: Any = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


@torch.inference_mode()
def _compared(model: nn.Module, exported: Runs, images: Tensor, tolerance: float) -> float:
    """Return the largest difference, of all images together and of the first alone.

    Raises:
        TrainerError: A label differs, or a probability by more than the tolerance.
    """
    pairs: Sequence[tuple[Tensor, Tensor]] = [
        (model(some), exported(some)) for some in (images, images[:1])
    ]
    differences = [float((right - other).abs().max()) for right, other in pairs]
    changed = max(int((right.argmax(1) != other.argmax(1)).sum()) for right, other in pairs)
    # Each by itself: max() passes over a difference that is not a number.
    if changed or not all(difference <= tolerance for difference in differences):
        raise TrainerError(
            f"the exported model differs from the checkpoint: {changed} of {len(images)} images "
            f"get another label, and a probability differs by {max(differences):.2g}, "
            f"allowed: {tolerance:.2g}; nothing was written"
        )
    return max(differences)
