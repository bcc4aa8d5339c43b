"""From image files to pixels: one file, or many on all cores.

A size is read from the file's header and checked before anything is decoded, so that a small file
that declares a huge image costs little.
"""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

MOST_PIXELS = 2**26
"""Of one image, unless the params ask for more; OpenCV's own limit is 16 times as high."""
TOLD_EVERY_S = 0.1
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
Image = NDArray[np.uint8]
Shape = tuple[int, int, int]
Told = Callable[[int, int], None]


class OtherShapeError(ValueError):
    """An image of another size or channel count than asked for; `shape` is the one it has."""

    def __init__(self, path: Path, shape: Iterable[int], expected: Shape) -> None:
        self.shape = tuple(shape)
        super().__init__(f"{path} is {words(self.shape)}, not {words(expected)}")


def words(shape: Iterable[int]) -> str:
    """Return a shape `(height, width, channels)` as one reads it in an error."""
    height, width, channels = shape
    return f"{width}x{height} with {channels} channel{'s' if channels > 1 else ''}"


def read_image(path: Path, shape: Shape, *, resize: bool = False) -> Image:
    """Read one image file.

    Returns:
        uint8, shape `(height, width, channels)`, colour as red, green, blue.

    Raises:
        ValueError: It is no image, has another size, depth or channel count than `shape`, or more
            pixels than are decoded; the text names the file.
    """
    try:
        data = path.read_bytes()
        _check_pixels(path, data, max(MOST_PIXELS, shape[0] * shape[1]))
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
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


def _check_pixels(path: Path, data: bytes, most: int) -> None:
    """Refuse an image by the size that its header declares.

    Raises:
        ValueError: It has more pixels than that.
    """
    width, height = _declared_size(data)
    if width * height > most:
        text = f"{path} declares {width}x{height} pixels; at most {most:,} are decoded"
        raise ValueError(f"{text}; make it smaller")


def _declared_size(data: bytes) -> tuple[int, int]:
    """Return the width and height in an image's header; 0, 0 where there is none to be found."""
    if data.startswith(PNG_SIGNATURE):  # the usual form, and quicker so (W3C PNG, 11.2.1)
        return struct.unpack_from(">II", data, 16) if len(data) >= 24 else (0, 0)
    import PIL.Image  # noqa: PLC0415 - nobody else needs it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has a limit of its own, and thoughts about odd files
        try:
            with PIL.Image.open(io.BytesIO(data)) as image:
                return image.size
        except PIL.Image.DecompressionBombError:
            return 2**20, 2**20  # far too large, it says
        except Exception:  # its readers raise anything; OpenCV may know the form
            return 0, 0


def _resized(image: Any, shape: Shape) -> Any:
    if image.shape == shape:
        return image
    shrinks = image.shape[0] > shape[0] or image.shape[1] > shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (shape[1], shape[0]), interpolation=how).reshape(shape)


class Decoding:
    """The decoding of many files, in chunks, by as many threads as there are cores.

    Args:
        files: In their order.
        read: Gives the pixels of one file; a `ValueError` says what is wrong with it.
        shape: Of each image.
        take: Called with the number of a chunk's first image and the chunk's pixels, in several
            threads at once.
    """

    def __init__(
        self,
        files: Sequence[Path],
        read: Callable[[Path], Image],
        shape: Shape,
        take: Callable[[int, memoryview], object],
    ) -> None:
        self._files = files
        self._read = read
        self._shape = shape
        self._take = take
        # 4 MB: a thread holds one chunk, whatever the size of the images
        self._chunk = min(max(2**22 // int(np.prod(shape)), 1), 256)
        self._starts = iter(range(0, len(files), self._chunk))  # next() on it is atomic
        self._lock = threading.Lock()
        self._done = 0
        self._is_over = False
        self._wrong: dict[int, ValueError] = {}

    def run(self, told: Told) -> list[ValueError]:
        """Decode all files and return what is wrong with any, in their order.

        Args:
            told: Called in this thread several times a second, and at the end, with how many files
                are done and how many there are. Whatever it raises ends the decoding.

        Raises:
            OSError: `take` could not write the pixels.
        """
        with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode") as pool:
            try:
                told(0, len(self._files))
                threads = [pool.submit(self._work) for _ in range(os.cpu_count() or 1)]
                while wait(threads, TOLD_EVERY_S).not_done:
                    told(self._done, len(self._files))
            finally:
                self._is_over = True
        for thread in threads:
            thread.result()
        told(len(self._files), len(self._files))
        return [self._wrong[number] for number in sorted(self._wrong)]

    def _work(self) -> None:
        try:
            for start in self._starts:
                self._decode(start)
                if self._is_over:
                    return
        except BaseException:
            self._is_over = True  # or the others would go on for nothing
            raise

    def _decode(self, start: int) -> None:
        files = self._files[start : start + self._chunk]
        pixels = np.zeros((len(files), *self._shape), dtype=np.uint8)
        for row, path in enumerate(files):
            if self._is_over:
                return
            try:
                pixels[row] = self._read(path)
            except ValueError as error:
                self._wrong[start + row] = error
        self._take(start, pixels.data)
        with self._lock:
            self._done += len(files)
