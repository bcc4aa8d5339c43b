"""Decodes many files on all cores, in chunks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np

from trainer.data.model_input import Image
from trainer.errors import ImageError

__all__ = ["DecodingPool", "OnProgress", "no_progress"]

CHUNK_BYTES = 2**22
"""Each thread holds one chunk of this size, however large the images are."""
MOST_IN_CHUNK = 256
PROGRESS_EVERY_S = 0.1

OnProgress = Callable[[int, int], None]
"""Called with the number of images that are done and the number of all."""


def no_progress(_done: int, _total: int) -> None:
    """Ignore the progress of the decoding."""


class DecodingPool:
    """The decoding of many files, by as many threads as there are cores.

    Args:
        files: In their order.
        read: Returns the pixels of one file; an `ImageError` says what is wrong with it.
        shape: Shape of each image, `(height, width, channels)`.
        take: Called with the number of a chunk's first image and the chunk's pixels, in several
            threads at once.
    """

    def __init__(
        self,
        files: Sequence[Path],
        read: Callable[[Path], Image],
        shape: tuple[int, int, int],
        take: Callable[[int, memoryview], object],
    ) -> None:
        self._files = files
        self._read = read
        self._shape = shape
        self._take = take
        self._chunk = min(max(CHUNK_BYTES // int(np.prod(shape)), 1), MOST_IN_CHUNK)
        self._starts = iter(range(0, len(files), self._chunk))  # next() on it is atomic
        self._lock = threading.Lock()
        self._done = 0
        self._is_over = False
        self._wrong: dict[int, ImageError] = {}

    def run(self, on_progress: OnProgress) -> list[ImageError]:
        """Decode all files and return what is wrong with any of them, in the files' order.

        Args:
            on_progress: Called in this thread several times per second, and at the end. Whatever
                it raises ends the decoding.

        Raises:
            OSError: `take` could not write the pixels.
        """
        n_threads = os.cpu_count() or 1
        with ThreadPoolExecutor(n_threads, thread_name_prefix="decode") as pool:
            try:
                on_progress(0, len(self._files))
                threads = [pool.submit(self._work) for _ in range(n_threads)]
                while wait(threads, PROGRESS_EVERY_S).not_done:
                    on_progress(self._done, len(self._files))
            finally:
                self._is_over = True
        for thread in threads:
            thread.result()
        on_progress(len(self._files), len(self._files))
        return [self._wrong[number] for number in sorted(self._wrong)]

    def _work(self) -> None:
        try:
            for start in self._starts:
                self._decode(start)
                if self._is_over:
                    return
        except BaseException:
            self._is_over = True  # otherwise the other threads would go on for nothing
            raise

    def _decode(self, start: int) -> None:
        files = self._files[start : start + self._chunk]
        pixels = np.zeros((len(files), *self._shape), dtype=np.uint8)
        for row, path in enumerate(files):
            if self._is_over:
                return
            try:
                pixels[row] = self._read(path)
            except ImageError as error:
                self._wrong[start + row] = error
        self._take(start, pixels.data)
        with self._lock:
            self._done += len(files)
