"""`python -m trainer evaluate` and `python -m trainer predict`."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainer.cli.class_table import class_table
from trainer.cli.group import data_option

if TYPE_CHECKING:
    from trainer.checkpoints.evaluation import Evaluation, Prediction

IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
checkpoint_argument = click.argument("checkpoint", type=click.Path(path_type=Path))


@click.command()
@checkpoint_argument
@data_option
@click.option("--kind", type=click.Choice(["test", "train"]), default="test", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def evaluate(*, checkpoint: Path, datadir: Path, kind: str, as_json: bool) -> None:
    """Test CHECKPOINT on a labelled split: metrics and a table of the classes."""
    from trainer.checkpoints.evaluation import evaluate as run  # noqa: PLC0415 - the help must not wait

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


@click.command()
@checkpoint_argument
@click.argument("images", nargs=-1, required=True)
@click.option(
    "--format", "form", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True
)
@click.option(
    "--output", type=click.File("w", encoding="utf-8", lazy=False), default="-",
    help="A file; standard output when not given.",
)  # fmt: skip
def predict(*, checkpoint: Path, images: tuple[str, ...], form: str, output: Any) -> None:
    """Predict IMAGES (files, folders, globs) with CHECKPOINT.

    A file that is missing or no image of the model's size, and a folder or glob without images,
    gets a row with its error; then the exit code is 3.
    """
    from trainer.checkpoints.evaluation import predict as run  # noqa: PLC0415 - the help must not wait

    failed = 0
    write = _csv_writer(output) if form == "csv" else _jsonl_writer(output)
    for prediction in run(checkpoint, image_files(images)):
        failed += prediction.error is not None
        write(prediction)
    if failed:
        click.echo(f"{failed} of the files could not be predicted", err=True)
        sys.exit(3)


def image_files(words: Iterable[str]) -> list[Path]:
    """Return the files that words name: files as they are, folders' images, globs' matches.

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


def _csv_writer(output: Any) -> Callable[[Prediction], None]:
    writer = csv.writer(output)
    writer.writerow(["file", "label", "confidence", "error"])

    def write(one: Prediction) -> None:
        confidence = "" if one.confidence is None else f"{one.confidence:.6f}"
        writer.writerow([one.file, one.label or "", confidence, one.error or ""])

    return write


def _jsonl_writer(output: Any) -> Callable[[Prediction], None]:
    return lambda one: click.echo(json.dumps(asdict(one), ensure_ascii=False), file=output)
