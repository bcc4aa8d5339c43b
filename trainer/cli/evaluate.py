"""`python -m trainer evaluate` and `python -m trainer predict`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from glob import glob
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainer.cli.class_table import class_table
from trainer.cli.group import data_option

if TYPE_CHECKING:
    from trainer.checkpoints.evaluation import Evaluation, Prediction

__all__ = ["checkpoint_argument", "evaluate", "image_files", "predict"]

IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
CHUNK = 256
"""Predictions that are written at a time."""
checkpoint_argument = click.argument("checkpoint", type=click.Path(path_type=Path))


@click.command(short_help="Test a checkpoint on labelled images.")
@checkpoint_argument
@data_option
@click.option(
    "--kind", type=click.Choice(["test", "train"]), default="test", show_default=True,
    help="The split to test on.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def evaluate(*, checkpoint: Path, datadir: Path, kind: str, as_json: bool) -> None:
    """Test CHECKPOINT on a labelled split; print metrics and a table of the classes."""
    from trainer.checkpoints.evaluation import evaluate as run  # noqa: PLC0415 - importing torch takes seconds

    result = run(checkpoint, datadir, kind)
    if as_json:
        click.echo(json.dumps({**asdict(result), "confusion": result.confusion.tolist()}))
    else:
        click.echo("\n".join(_table(result)))


def _table(result: Evaluation) -> Iterator[str]:
    yield f"{result.images} images"
    yield from (f"{name:>18} {value:.4f}" for name, value in result.metrics.items())
    yield ""
    yield from class_table(result.per_class)


@click.command(short_help="Predict images with a checkpoint.")
@checkpoint_argument
@click.argument("images", nargs=-1, required=True)
@click.option(
    "--format", "form", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True,
    help="How to print the predictions: CSV, or one JSON object per line.",
)  # fmt: skip
@click.option(
    "--output", type=click.File("w", encoding="utf-8", lazy=False), default="-",
    help="The file to write to; by default standard output.",
)  # fmt: skip
def predict(*, checkpoint: Path, images: tuple[str, ...], form: str, output: Any) -> None:
    """Predict IMAGES (files, folders, globs) with CHECKPOINT.

    A file that is missing, is not an image or has another size than the model's gets a row with its
    error, as does a folder or glob without images; then the exit code is 3.
    """
    from trainer.checkpoints.evaluation import predict as run  # noqa: PLC0415 - importing torch takes seconds

    predictions = run(checkpoint, image_files(images))
    write = _csv_writer(output) if form == "csv" else _jsonl_writer(output)
    failed = 0
    while chunk := list(islice(predictions, CHUNK)):
        failed += sum(one.error is not None for one in chunk)
        write(chunk)
    if failed:
        click.echo(f"{failed} of the files could not be predicted", err=True)
        sys.exit(3)


def image_files(words: Iterable[str]) -> list[Path]:
    """Return the files that words name: files, the images in folders, the matches of globs.

    A word that names nothing is returned as it is, so that it gets a row with its error.
    """
    found: list[Path] = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            files = sorted(one for one in path.rglob("*") if one.suffix.lower() in IMAGE_ENDINGS)
        elif path.exists():
            files = [path]
        else:
            files = [Path(one) for one in sorted(glob(word, recursive=True))]  # noqa: PTH207
        found += files or [path]
    return found


def _csv_writer(output: Any) -> Callable[[Sequence[Prediction]], None]:
    import pandas as pd  # noqa: PLC0415 - takes half a second

    columns = ["file", "label", "confidence", "error"]
    chunks = count()

    def write(chunk: Sequence[Prediction]) -> None:
        table = pd.DataFrame(map(asdict, chunk), columns=columns)
        table.to_csv(output, header=next(chunks) == 0, index=False, float_format="%.6f")

    return write


def _jsonl_writer(output: Any) -> Callable[[Sequence[Prediction]], None]:
    def write(chunk: Sequence[Prediction]) -> None:
        for one in chunk:
            click.echo(json.dumps(asdict(one), ensure_ascii=False), file=output)

    return write
