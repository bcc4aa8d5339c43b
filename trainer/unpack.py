"""Unpacks idx files (the form that MNIST and Fashion-MNIST come in) into folders of images."""

from __future__ import annotations

import csv
import gzip
import os
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.errors import DataError, TrainerError

PREFIXES = {"train": ("train",), "test": ("test", "t10k")}
UBYTE = 0x08
Bytes = NDArray[np.uint8]


def save_data(source: str | Path = ".", datadir: str | Path = "data") -> dict[str, int]:
    """Unpack idx files into `datadir/train` and `datadir/test`, each with an `info.csv`.

    Args:
        source: The folder with `train-images-idx3-ubyte.gz`, `train-labels-idx1-ubyte.gz` and the
            same for `test-...` or `t10k-...`; the names may lack `.gz` when unpacked.
        datadir: Where to write; images already there are replaced.

    Returns:
        How many images each split has.

    Raises:
        DataError: A file is not there, is cut short, has a wrong magic number, or images and
            labels do not match; everything found in any file is listed, and nothing is written.
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
    """Write images as PNG files and their `info.csv` (last, so that a table means whole data)."""
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
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("files", "type"), *zip(files, labels, strict=True)])


def read_idx(path: Path, dimensions: int) -> Bytes:
    """Read one idx file of unsigned bytes.

    The format: two zero bytes, the type (8: unsigned byte), the number of dimensions, each
    dimension as a big-endian 32-bit number, then the values, the last dimension fastest.

    Raises:
        DataError: It is no gzip, has another magic number, or its length is not what it says.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError("bad data", [f"{path} is damaged or no gzip file: {error}"]) from error
    magic = bytes([0, 0, UBYTE, dimensions])
    if data[:4] != magic:
        text = f"{path} starts with {data[:4].hex(' ') or 'nothing'}, not {magic.hex(' ')}"
        raise DataError("bad data", [f"{text}: no idx file of {dimensions} dimension(s)"])
    start = 4 + 4 * dimensions
    shape = [int(size) for size in np.frombuffer(data[4:start][: (len(data) - 4) // 4 * 4], ">u4")]
    expected = int(np.prod([1, *shape], dtype=object))
    if len(shape) != dimensions or len(data) - start != expected:
        text = f"{path} has {max(len(data) - start, 0)} values, but its header says {shape}"
        raise DataError("bad data", [f"{text}: the file is cut short or damaged"])
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


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
