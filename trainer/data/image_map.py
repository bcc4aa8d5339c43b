"""All images of a split as one uint8 memory map, built once and kept beside the split.

The name of the map is a fingerprint of info.csv and of every file's size and time of change, so the
map is rebuilt when anything changes. It is renamed into place, so it is complete or not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mmap
import os
import stat
import tempfile
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.decoding_pool import DecodingPool, OnProgress, no_progress
from trainer.data.image_reader import ImageReader
from trainer.data.model_input import Image, InputForm
from trainer.data.table import Table
from trainer.errors import DataError, ImageError, OtherSizeError

__all__ = ["ImageMap", "open_images"]

logger = logging.getLogger(__name__)

FORMAT = "2"
"""Changes when the same files give other pixels, so that older maps are rebuilt."""
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

        Images of a large map are read, and the map is not touched: its pages would count as memory
        of this process (Linux maps a few hundred kilobytes around each page that is touched), and
        reading is faster.
        """
        if self._is_small:
            return self.array[indices]
        taken = np.empty((len(indices), *self.array.shape[1:]), dtype=np.uint8)
        for row, index in zip(taken, indices.tolist(), strict=True):
            os.preadv(self._descriptor, [row], index * row.nbytes)
        return taken


def open_images(
    table: Table, form: InputForm, *, resize: bool = False, on_progress: OnProgress = no_progress
) -> ImageMap:
    """Return the images of a table, building the map when there is none for these very files.

    Args:
        table: The split.
        form: What every image is brought to.
        resize: Whether images of other sizes are resized; otherwise they are an error.
        on_progress: Called while the map is built, several times per second. Whatever it raises
            ends the building and leaves nothing behind.

    Raises:
        DataError: With every file that is missing, cannot be decoded, or has another size; or the
            map cannot be written.
    """
    try:
        name = f"images-{_fingerprint(table, form, resize=resize)}.u8"
    except DataError as missing:
        folder = table.path.parent
        there = [folder / name for name in table.files if _is_file(folder / name)]
        read = ImageReader(form, resize=resize).read
        errors = DecodingPool(there, read, form.shape, lambda *_: None).run(on_progress)
        raise DataError("bad data", [*missing.findings, *map(str, errors)]) from missing
    shape = (len(table.files), *form.shape)
    for folder in _cache_folders(table):
        with contextlib.suppress(OSError):  # not there, or another user's
            if (folder / name).stat().st_size == int(np.prod(shape)):
                return ImageMap(folder / name, shape)
    if not table.files:
        raise DataError("bad data", [f"{table.path} lists no image that can be used"])
    return ImageMap(_build_anywhere(table, form, name, on_progress, resize=resize), shape)


def _fingerprint(table: Table, form: InputForm, *, resize: bool) -> str:
    """Return a hash that changes with the table, any file's size or time, and the images' form.

    Raises:
        DataError: Files that the table lists are not there, or are not files.
    """
    folder = table.path.parent
    there = {entry.name: entry for entry in os.scandir(folder)}
    digest = hashlib.sha256(f"{FORMAT} {form.shape} {resize}".encode())
    digest.update(table.path.read_bytes())
    wrong = []
    for name in table.files:
        try:
            found = there[name].stat() if name in there else (folder / name).stat()
        except OSError:
            wrong.append(f"{folder / name} is listed in info.csv but is not there")
            continue
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
            wrong.append(f"{folder / name} is listed in info.csv but is not a file")
        digest.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    if wrong:
        raise DataError("bad data", wrong)
    return digest.hexdigest()[:24]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # its name is too long, say
        return False


def _build_anywhere(
    table: Table, form: InputForm, name: str, on_progress: OnProgress, *, resize: bool
) -> Path:
    """Build the map in the first folder that can be written.

    Raises:
        DataError: With every file that cannot be used; or no folder can be written.
    """
    failures = []
    for folder in _cache_folders(table):
        reader = ImageReader(form, resize=resize)
        try:
            path = _build(table, reader, folder / name, on_progress)
        except OSError as error:
            failures.append(f"{folder}: {error.strerror}")
        else:
            _warn_of_colours(table, reader)
            return path
    n_bytes = len(table.files) * int(np.prod(form.shape))
    text = f"the memory map of the images of {table.path}, {n_bytes:,} bytes"
    raise DataError("bad data", [f"{text}, cannot be written ({'; '.join(failures)})"])


def _build(table: Table, reader: ImageReader, path: Path, on_progress: OnProgress) -> Path:
    """Decode every file into a new map and rename it into place.

    Raises:
        DataError: With every file that cannot be used.
        OSError: The folder cannot be written, or the disk is full.
    """
    folder, shape = path.parent, reader.form.shape
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    image_bytes = int(np.prod(shape))
    files = [table.path.parent / name for name in table.files]
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix="building-")
    try:
        if hasattr(os, "posix_fallocate"):  # a full disk is found before the work, not after it
            os.posix_fallocate(descriptor, 0, len(files) * image_bytes)
        # Written, not mapped: dirty pages of a map would count as this process's memory.
        errors = DecodingPool(
            files, reader.read, shape,
            lambda start, pixels: _write(descriptor, pixels, start * image_bytes),
        ).run(on_progress)  # fmt: skip
        if errors:
            findings = [*_remedy(errors, table, reader.form), *map(str, errors)]
            raise DataError("bad data", findings)
        os.fsync(descriptor)
        _clear(folder)
        Path(temporary).rename(path)
    finally:
        os.close(descriptor)
        Path(temporary).unlink(missing_ok=True)
    return path


def _warn_of_colours(table: Table, reader: ImageReader) -> None:
    if reader.n_coloured:
        logger.warning(
            "%s: %d of %d images have colours and are converted to grey; "
            "set is_image_color=true to train on colours",
            table.path, reader.n_coloured, len(table.files),
        )  # fmt: skip


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


def _remedy(errors: list[ImageError], table: Table, form: InputForm) -> list[str]:
    """Return which params to set when all images have one and the same other size."""
    sizes = {
        (error.height, error.width) if isinstance(error, OtherSizeError) else None
        for error in errors
    }
    size = sizes.pop()
    if len(errors) < len(table.files) or sizes or size is None:
        return []
    height, width = size
    text = (
        f"all images of {table.path} have {width}x{height} pixels, not {form.width}x{form.height}"
    )
    return [f"{text}: set image_height={height} and image_width={width}"]


def _cache_folders(table: Table) -> Iterator[Path]:
    """Yield where the map may be: beside the split, otherwise in the system's temporary folder."""
    yield table.path.parent / ".darkroom"
    where = hashlib.sha256(str(table.path.resolve()).encode()).hexdigest()[:16]
    yield Path(tempfile.gettempdir()) / f"darkroom-{os.getuid()}" / where
