"""`python -m trainer export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainer.cli.evaluate import checkpoint_argument, image_files
from trainer.cli.group import data_option
from trainer.errors import DataError, ImageError

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.checkpoints.checkpoint import Checkpoint

__all__ = ["export"]

MOST_IMAGES = 256


@click.command(short_help="Export a checkpoint to ONNX or torch.export.")
@checkpoint_argument
@click.argument("images", nargs=-1)
@click.option(
    "--format", "form", type=click.Choice(["onnx", "torch-export"]),
    help="The format to write; by default the ending of the output decides: .onnx, or .pt2 for "
    "torch-export.",
)  # fmt: skip
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write.",
)  # fmt: skip
@click.option(
    "--tolerance", type=click.FloatRange(min=0), default=1e-4, show_default=True,
    help="The largest difference between probabilities that is accepted.",
)  # fmt: skip
@data_option
def export(
    *,
    checkpoint: Path,
    images: tuple[str, ...],
    form: str | None,
    output: Path,
    tolerance: float,
    datadir: Path,
) -> None:
    """Export CHECKPOINT to ONNX or torch.export, checked on real IMAGES.

    The exported model takes uint8 images (n, height, width, channels) as they are stored, and
    returns probabilities (n, classes). It is tried on IMAGES (files, folders, globs), or on the
    test images in --data. It is only written if it returns the same labels as the checkpoint and,
    within --tolerance, the same probabilities.
    """
    from trainer.checkpoints.checkpoint import load_checkpoint  # noqa: PLC0415 - importing torch takes seconds
    from trainer.checkpoints.export import export as run  # noqa: PLC0415

    loaded = load_checkpoint(checkpoint)
    pixels = pixels_of_files(loaded, images) if images else _pixels_of_split(loaded, datadir)
    result = run(loaded, output, pixels, form=form, tolerance=tolerance)  # type: ignore[arg-type]
    click.echo(
        f"{result.path}: {result.form}; the same labels on {result.images} images, "
        f"largest difference between probabilities {result.largest_difference:.2g}"
    )


def pixels_of_files(checkpoint: Checkpoint, words: tuple[str, ...]) -> Tensor:
    """Return the images that words name, at most 256, as the checkpoint takes them.

    Raises:
        DataError: With every file that cannot be used.
    """
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    reader = checkpoint.image_reader()
    read, findings = [], []
    for file in image_files(words)[:MOST_IMAGES]:
        try:
            read.append(reader.read(file))
        except ImageError as error:
            findings.append(str(error))
    if findings:
        raise DataError("bad images", findings)
    return torch.from_numpy(np.stack(read))


def _pixels_of_split(checkpoint: Checkpoint, datadir: Path) -> Tensor:
    import torch  # noqa: PLC0415

    from trainer.data.splits import open_split  # noqa: PLC0415

    kind = "test" if (datadir / "test").exists() else "train"
    split = open_split(checkpoint.params, kind, datadir, checkpoint.class_names)
    return split.pixels(torch.arange(min(len(split), MOST_IMAGES)))
