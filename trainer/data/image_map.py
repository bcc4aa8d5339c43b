"""All images of a split as one uint8 memory map, built once and kept beside the split.

The map is named by a fingerprint of info.csv and of every file's size and time of change, so that
it is rebuilt when anything changes, and renamed into place, so that it is whole or not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.decoding import Decoding, Image, OtherShapeError, Shape, Told, read_image, words
from trainer.data.table import Table
from trainer.errors import DataError

FORMAT = "1"
SMALL_BYTES = 256 * 2**20
"""A map up to this size may be in memory as a whole."""
STALE_AFTER_S = 3600.0


class ImageMap:
    """Images of one split, shape `(n, height, width, channels)`, in a file.

    Args:
        path: A file of exactly `n * height * width * channels` bytes.
        shape: `(n, height, width, channels)`.

    Attributes:
        array: The mapped file.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int, int]) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        mapped = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
        self.array: Image = np.frombuffer(mapped, dtype=np.uint8).reshape(shape)
        self._is_small = self.array.nbytes <= SMALL_BYTES

    def __len__(self) -> int:
        return len(self.array)

    def take(self, indices: NDArray[np.int64]) -> Image:
        """Return copies of some images.

        Those of a large map are read and not touched in memory: pages of the map would count as
        this process's (Linux maps a few hundred kilobytes around each that is touched), and reading
        is quicker than that.
        """
        if self._is_small:
            return self.array[indices]
        taken = np.empty((len(indices), *self.array.shape[1:]), dtype=np.uint8)
        for row, index in zip(taken, indices.tolist(), strict=True):
            os.preadv(self._descriptor, [row], index * row.nbytes)
        return taken


def ignore(_done: int, _total: int) -> None:
    """Be told how many images are decoded, and let it go on."""


def open_images(
    table: Table, shape: Shape, *, resize: bool = False, told: Told = ignore
) -> ImageMap:
    """Return the images of a table, building the map when there is none for these very files.

    Args:
        table: The split.
        shape: What every image must have: `(height, width, channels)`.
        resize: Resize images of other heights and widths instead of refusing them.
        told: Called while the map is built, several times a second, with how many images are done
            and how many there are. Whatever it raises ends the building and leaves nothing behind.

    Raises:
        DataError: With every file that is missing, no image, or of another size or channel count;
            or the map cannot be written.
    """
    whole = (len(table.files), *shape)
    read = partial(read_image, shape=shape, resize=resize)
    try:
        name = f"images-{fingerprint(table, (*shape, int(resize)))}.u8"
    except DataError as missing:
        folder = table.path.parent
        there = [folder / name for name in table.files if (folder / name).is_file()]
        errors = Decoding(there, read, shape, lambda *_: None).run(told)
        raise DataError("bad data", [*missing.findings, *map(str, errors)]) from missing
    for folder in _cache_folders(table):
        with contextlib.suppress(OSError):  # not there, or another user's
            if (folder / name).stat().st_size == int(np.prod(whole)):
                return ImageMap(folder / name, whole)
    if not table.files:
        raise DataError("bad data", [f"{table.path} lists no image that can be used"])
    failures = []
    for folder in _cache_folders(table):
        try:
            return ImageMap(_build(table, read, shape, folder / name, told), whole)
        except OSError as error:
            failures.append(f"{folder}: {error.strerror}")
    text = f"the memory map of the images of {table.path}, {int(np.prod(whole)):,} bytes"
    raise DataError("bad data", [f"{text}, cannot be written ({'; '.join(failures)})"])


def fingerprint(table: Table, shape: Iterable[int]) -> str:
    """Return a hash that changes with the table, any file's size or time, and the image shape.

    Raises:
        DataError: Files that the table lists are not there, or are no files.
    """
    folder = table.path.parent
    there = {entry.name: entry for entry in os.scandir(folder)}
    digest = hashlib.sha256(f"{FORMAT} {tuple(shape)}".encode())
    digest.update(table.path.read_bytes())
    wrong = []
    for name in table.files:
        try:
            found = there[name].stat() if name in there else (folder / name).stat()
        except OSError:
            wrong.append(f"{folder / name} is listed in info.csv but is not there")
            continue
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
            wrong.append(f"{folder / name} is listed in info.csv but is no file")
        digest.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    if wrong:
        raise DataError("bad data", wrong)
    return digest.hexdigest()[:24]


def _build(
    table: Table, read: Callable[[Path], Image], shape: Shape, path: Path, told: Told
) -> Path:
    """Decode every file into a new map and rename it into place.

    Raises:
        DataError: With every file that cannot be used.
        OSError: The folder cannot be written, or the disk is full.
    """
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    image_bytes = int(np.prod(shape))
    files = [table.path.parent / name for name in table.files]
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix="building-")
    try:
        if hasattr(os, "posix_fallocate"):  # a full disk is found out before the work, not after
            os.posix_fallocate(descriptor, 0, len(files) * image_bytes)
        # Written, not mapped: dirty pages of a map would count as this process's memory.
        errors = Decoding(
            files, read, shape,
            lambda start, pixels: _write(descriptor, pixels, start * image_bytes),
        ).run(told)  # fmt: skip
        if errors:
            raise DataError("bad data", [*_remedy(errors, table, shape), *map(str, errors)])
        os.fsync(descriptor)
        _clear(folder)
        Path(temporary).rename(path)
    finally:
        os.close(descriptor)
        Path(temporary).unlink(missing_ok=True)
    return path


def _write(descriptor: int, pixels: memoryview, offset: int) -> None:
    """Write all of it: one call takes 2 GB at most, and less on a disk that is nearly full."""
    left = pixels.cast("B")
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written


def _clear(folder: Path) -> None:
    """Remove the maps of other states of the split, and what a killed process left behind."""
    for old in folder.glob("images-*.u8"):
        old.unlink(missing_ok=True)
    for left in folder.glob("building-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE_AFTER_S:
                left.unlink()


def _remedy(errors: list[ValueError], table: Table, expected: Shape) -> list[str]:
    """Return which params to set when all images have one and the same other shape."""
    shapes = {error.shape if isinstance(error, OtherShapeError) else None for error in errors}
    shape = shapes.pop()
    if len(errors) < len(table.files) or shapes or shape is None:
        return []
    height, width, channels = shape
    sets = [f"image_height={height}", f"image_width={width}"] if shape[:2] != expected[:2] else []
    if channels != expected[2]:
        if channels not in {1, 3}:
            return []
        sets.append(f"is_image_color={'true' if channels == 3 else 'false'}")
    return [f"all images of {table.path} are {words(shape)}: set {' and '.join(sets)}"]


def _cache_folders(table: Table) -> Iterator[Path]:
    """Yield where the map may lie: beside the split, else in the system's temporary folder."""
    yield table.path.parent / ".darkroom"
    where = hashlib.sha256(str(table.path.resolve()).encode()).hexdigest()[:16]
    yield Path(tempfile.gettempdir()) / f"darkroom-{os.getuid()}" / where
