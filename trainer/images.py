"""All images of a split as one uint8 memory map, built once and kept beside the split.

The map is named by a fingerprint of info.csv and of every file's size and time of change, so that
it is rebuilt when anything changes, and renamed into place, so that it is whole or not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.errors import DataError
from trainer.labels import Table

CHUNK = 256
FORMAT = "1"
RELEASE_AFTER_BYTES = 256 * 2**20
Image = NDArray[np.uint8]
Shape = tuple[int, int, int]


class OtherShapeError(ValueError):
    """An image of another size or channel count than asked for; `shape` is the one it has."""

    def __init__(self, path: Path, shape: Iterable[int], expected: Shape) -> None:
        self.shape = tuple(shape)
        super().__init__(f"{path} is {_words(self.shape)}, not {_words(expected)}")


class ImageMap:
    """Images of one split, shape `(n, height, width, channels)`, in a file.

    Args:
        path: A file of exactly `n * height * width * channels` bytes.
        shape: `(n, height, width, channels)`.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int, int]) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.array: Image = np.frombuffer(self._map, dtype=np.uint8).reshape(shape)
        self._image_bytes = self.array[0].nbytes
        self._touched = 0

    def __len__(self) -> int:
        return len(self.array)

    def take(self, indices: NDArray[np.int64]) -> Image:
        """Return copies of some images, and now and then give the map's pages back.

        Pages that were read count as this process's memory until they are given back; the system
        keeps them in its file cache, so that reading them again is cheap.
        """
        taken = self.array[indices]
        self._touched += max(len(indices) * self._image_bytes, len(indices) * mmap.PAGESIZE)
        if self._touched > RELEASE_AFTER_BYTES and hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._touched = 0
        return taken


def open_images(table: Table, shape: Shape, *, resize: bool = False) -> ImageMap:
    """Return the images of a table, building the map when there is none for these very files.

    Args:
        table: The split.
        shape: What every image must have: `(height, width, channels)`.
        resize: Resize images of other heights and widths instead of refusing them.

    Raises:
        DataError: With every file that is missing, no image, or of another size or channel count.
    """
    whole = (len(table.files), *shape)
    read = partial(read_image, shape=shape, resize=resize)
    try:
        name = f"images-{fingerprint(table, (*shape, int(resize)))}.u8"
    except DataError as missing:
        there = [name for name in table.files if (table.path.parent / name).exists()]
        errors = _decoded(replace(table, files=tuple(there)), read, shape, lambda *_: None)
        raise DataError("bad data", [*missing.findings, *map(str, errors)]) from missing
    for folder in _cache_folders(table):
        path = folder / name
        if path.exists() and path.stat().st_size == int(np.prod(whole)):
            return ImageMap(path, whole)
    if not table.files:
        raise DataError("bad data", [f"{table.path} lists no image that can be used"])
    path = _build(table, read, shape, name)
    return ImageMap(path, whole)


def fingerprint(table: Table, shape: Iterable[int]) -> str:
    """Return a hash that changes with the table, any file's size or time, and the image shape.

    Raises:
        DataError: Files that the table lists are not there.
    """
    folder = table.path.parent
    there = {entry.name: entry for entry in os.scandir(folder)}
    digest = hashlib.sha256(f"{FORMAT} {tuple(shape)}".encode())
    digest.update(table.path.read_bytes())
    missing = []
    for name in table.files:
        try:
            stat = there[name].stat() if name in there else (folder / name).stat()
        except OSError:
            missing.append(f"{folder / name} is listed in info.csv but is not there")
            continue
        digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    if missing:
        raise DataError("bad data", missing)
    return digest.hexdigest()[:24]


def read_image(path: Path, shape: Shape, *, resize: bool = False) -> Image:
    """Read one image file.

    Returns:
        uint8, shape `(height, width, channels)`, colour as red, green, blue.

    Raises:
        ValueError: It is no image, or has another size, depth or channel count than `shape`; the
            text names the file.
    """
    try:
        data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    except (OSError, cv2.error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if image is None:
        raise ValueError(f"{path} is no image")
    if image.dtype != np.uint8:
        raise ValueError(f"{path} has {image.dtype} values; images must have 8 bits a channel")
    image = image[:, :, None] if image.ndim == 2 else image
    if resize and image.shape[2] == shape[2]:
        image = _resized(image, shape)
    if image.shape != shape:
        raise OtherShapeError(path, image.shape, shape)
    channels = slice(None, None, -1) if shape[2] == 3 else slice(None)
    return np.asarray(image[:, :, channels], dtype=np.uint8)


def _resized(image: Any, shape: Shape) -> Any:
    if image.shape == shape:
        return image
    shrinks = image.shape[0] > shape[0] or image.shape[1] > shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (shape[1], shape[0]), interpolation=how).reshape(shape)


def _build(table: Table, read: Callable[[Path], Image], shape: Shape, name: str) -> Path:
    """Decode every file into a new map on all cores and rename it into place."""
    folder = _writable(_cache_folders(table))
    image_bytes = int(np.prod(shape))
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix="building-")
    try:
        # Written, not mapped: dirty pages of a map would count as this process's memory.
        errors = _decoded(
            table, read, shape,
            lambda start, pixels: os.pwrite(descriptor, pixels, start * image_bytes),
        )  # fmt: skip
        if errors:
            raise DataError("bad data", [*_remedy(errors, table, shape), *map(str, errors)])
        os.fsync(descriptor)
        for old in folder.glob("images-*.u8"):
            old.unlink(missing_ok=True)
        Path(temporary).rename(folder / name)
    finally:
        os.close(descriptor)
        Path(temporary).unlink(missing_ok=True)
    return folder / name


def _decoded(
    table: Table,
    read: Callable[[Path], Image],
    shape: Shape,
    take: Callable[[int, bytes], object],
) -> list[ValueError]:
    """Hand the pixels of all files on, a chunk at a time, and return what is wrong with any."""
    errors = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        starts = range(0, len(table.files), CHUNK)
        for start, (pixels, wrong) in zip(
            starts, pool.map(lambda at: _chunk(table, at, read, shape), starts), strict=True
        ):
            take(start, pixels)
            errors += wrong
    return errors


def _remedy(errors: list[ValueError], table: Table, expected: Shape) -> list[str]:
    """Return which params to set when all images have one and the same other shape."""
    shapes = {error.shape if isinstance(error, OtherShapeError) else None for error in errors}
    shape = shapes.pop()
    if len(errors) < len(table.files) or shapes or shape is None:
        return []
    height, width, channels = shape
    words = [f"image_height={height}", f"image_width={width}"] if shape[:2] != expected[:2] else []
    if channels != expected[2]:
        if channels not in {1, 3}:
            return []
        words.append(f"is_image_color={'true' if channels == 3 else 'false'}")
    return [f"all images of {table.path} are {_words(shape)}: set {' and '.join(words)}"]


def _chunk(
    table: Table, start: int, read: Callable[[Path], Image], shape: Shape
) -> tuple[bytes, list[ValueError]]:
    files = table.files[start : start + CHUNK]
    pixels = np.zeros((len(files), *shape), dtype=np.uint8)
    errors = []
    for row, name in enumerate(files):
        try:
            pixels[row] = read(table.path.parent / name)
        except ValueError as error:
            errors.append(error)
    return pixels.tobytes(), errors


def _cache_folders(table: Table) -> Iterator[Path]:
    """Yield where the map may lie: beside the split, else in the system's temporary folder."""
    yield table.path.parent / ".darkroom"
    where = hashlib.sha256(str(table.path.resolve()).encode()).hexdigest()[:16]
    yield Path(tempfile.gettempdir()) / f"darkroom-{os.getuid()}" / where


def _writable(folders: Iterator[Path]) -> Path:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if os.access(folder, os.W_OK):
                return folder
    raise DataError("bad data", ["no folder for the images' memory map can be written"])


def _words(shape: Iterable[int]) -> str:
    height, width, channels = shape
    return f"{width}x{height} with {channels} channel{'s' if channels > 1 else ''}"
