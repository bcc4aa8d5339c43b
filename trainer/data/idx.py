"""Unpacks idx files (the format of MNIST and Fashion-MNIST) into folders of images."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BufferedIOBase
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.errors import DataError, TrainerError

__all__ = ["read_idx", "save_data", "write_split"]

PREFIXES = {"train": ("train",), "test": ("test", "t10k")}
UBYTE = 0x08
READ_BYTES = 2**20
Bytes = NDArray[np.uint8]


def save_data(source: str | Path = ".", datadir: str | Path = "data") -> dict[str, int]:
    """Unpack idx files into `datadir/train` and `datadir/test`, each with an `info.csv`.

    Args:
        source: The folder with `train-images-idx3-ubyte.gz`, `train-labels-idx1-ubyte.gz` and the
            same for `test-...` or `t10k-...`; files without `.gz` are not compressed.
        datadir: The folder to write to; images that are there already are replaced.

    Returns:
        Number of images by split, "train" and "test".

    Raises:
        DataError: A file is not there, is cut short, has a wrong magic number, or images and
            labels do not match; every problem of every file is listed, and nothing is written.
        TrainerError: `datadir` cannot be written.
    """
    splits: dict[str, tuple[Bytes, Bytes]] = {}
    findings: list[str] = []
    for kind in PREFIXES:
        try:
            splits[kind] = _read_split(Path(source), kind)
        except DataError as error:
            findings += error.findings
    if findings:
        raise DataError(f"the idx files in {source} cannot be unpacked", findings)
    for kind, (images, labels) in splits.items():
        try:
            write_split(Path(datadir) / kind, images, [str(label) for label in labels])
        except OSError as error:
            text = f"{Path(datadir) / kind} cannot be written ({error.strerror})"
            raise TrainerError(f"{text}; choose another folder") from error
    return {kind: len(labels) for kind, (_, labels) in splits.items()}


def write_split(folder: Path, images: Iterable[Bytes], labels: Iterable[str]) -> None:
    """Write images as PNG files and their `info.csv`, which comes last: it means complete data."""
    import pandas as pd  # noqa: PLC0415 - takes half a second

    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "info.csv"
    table.unlink(missing_ok=True)

    def write(numbered: tuple[int, Bytes]) -> str:
        number, image = numbered
        name = f"{number:06d}.png"
        _, data = cv2.imencode(".png", image)
        (folder / name).write_bytes(data.tobytes())
        return name

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = list(pool.map(write, enumerate(images), chunksize=256))
    pd.DataFrame({"files": files, "type": list(labels)}).to_csv(table, index=False)


def read_idx(path: Path, dimensions: int) -> Bytes:
    """Read one idx file of unsigned bytes.

    The format: two zero bytes, the type (8: unsigned byte), the number of dimensions, each
    dimension as a big-endian 32-bit number, then the values, the last dimension fastest.

    Raises:
        DataError: The file is not gzip, has another magic number, or has another length than its
            header says.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            return _read_values(path, file, dimensions)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError("bad data", [f"{path} is damaged or not a gzip file: {error}"]) from error


def _read_values(path: Path, file: BufferedIOBase, dimensions: int) -> Bytes:
    """Read the header and the values that it promises: a small gzip file can hold terabytes."""
    magic = bytes([0, 0, UBYTE, dimensions])
    header = file.read(4 + 4 * dimensions)
    if header[:4] != magic:
        text = f"{path} starts with {header[:4].hex(' ') or 'nothing'}, not {magic.hex(' ')}"
        raise DataError("bad data", [f"{text}: not an idx file of {dimensions} dimension(s)"])
    shape = [size for (size,) in struct.iter_unpack(">I", header[4 : len(header) // 4 * 4])]
    expected = math.prod(shape) if len(shape) == dimensions else 0
    data = bytearray()
    while len(data) <= expected and (more := file.read(READ_BYTES)):
        data += more
    if len(shape) != dimensions or len(data) != expected:
        values = f"{len(data)} values" if len(data) <= expected else "more values"
        text = f"{path} has {values}, but its header says {shape}"
        raise DataError("bad data", [f"{text}: the file is cut short or damaged"])
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_split(source: Path, kind: str) -> tuple[Bytes, Bytes]:
    found, findings = [], []
    for what, dimensions in (("images-idx3", 3), ("labels-idx1", 1)):
        names = [f"{prefix}-{what}-ubyte{end}" for prefix in PREFIXES[kind] for end in (".gz", "")]
        path = next((source / name for name in names if (source / name).is_file()), None)
        if path is None:
            findings.append(f"{source} holds no {' nor '.join(names[::2])}")
            continue
        try:
            found.append(read_idx(path, dimensions))
        except DataError as error:
            findings += error.findings
    if not findings and len(found[0]) != len(found[1]):
        findings.append(f"{source}: {len(found[0])} {kind} images but {len(found[1])} labels")
    if not findings and not found[0].size:
        findings.append(f"{source}: the {kind} files hold no image")
    if findings:
        raise DataError("bad data", findings)
    return found[0], found[1]
