"""Reads image files as a model takes them; for the memory map, for predictions and exports."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from trainer.data.decoding import MOST_PIXELS, Pixels, read_image
from trainer.data.model_input import Image, InputForm, to_input

__all__ = ["ImageReader"]


class ImageReader:
    """Reads image files; several threads may use it at a time.

    Args:
        form: What every image is brought to.
        resize: Whether images of other sizes are resized; otherwise they are an error.

    Attributes:
        n_coloured: How many images had colours and have become grey.
    """

    def __init__(self, form: InputForm, *, resize: bool) -> None:
        self.form = form
        self.n_coloured = 0
        self._resize = resize
        self._max_pixels = max(MOST_PIXELS, form.height * form.width)
        self._lock = threading.Lock()

    def read(self, path: Path) -> Image:
        """Read one image file.

        Returns:
            uint8, `(height, width, channels)`, colour as red, green, blue.

        Raises:
            ImageError: The file cannot be read or decoded, or has another size; the text names it.
        """
        pixels = read_image(path, max_pixels=self._max_pixels)
        image = to_input(pixels, self.form, resize=self._resize, name=path)
        if not self.form.is_colour and _has_colours(pixels):
            with self._lock:
                self.n_coloured += 1
        return image


def _has_colours(pixels: Pixels) -> bool:
    """Whether red, green and blue differ anywhere; many grey images have three equal channels."""
    if pixels.ndim == 2:
        return False
    red, green, blue = (pixels[:, :, channel] for channel in range(3))
    return not (np.array_equal(red, green) and np.array_equal(green, blue))
