"""`python -m trainer unpack`."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["unpack"]


@click.command(short_help="Unpack MNIST's idx files into a data folder.")
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("datadir", default="data", type=click.Path(path_type=Path))
def unpack(source: Path, datadir: Path) -> None:
    """Unpack the idx files in SOURCE (as MNIST has them) into DATADIR (default: data)."""
    from trainer.data.idx import save_data  # noqa: PLC0415 - importing OpenCV takes time

    counts = save_data(source, datadir)
    for kind, count in counts.items():
        click.echo(f"{count} images in {datadir / kind}")
