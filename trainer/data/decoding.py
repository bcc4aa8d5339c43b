"""From the bytes of an image file to its pixels: the only decoder, for files and for messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.data.headers import JPEG_SIGNATURE, UPRIGHT, image_size, orientation
from trainer.errors import ImageError, TooManyPixelsError

__all__ = ["MOST_PIXELS", "Pixels", "decode_image", "read_image"]

MOST_PIXELS = 2**26
"""Largest image that is decoded unless more is asked for; OpenCV's own limit is 16 times that."""

OPAQUE = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
"""Drops alpha and turns the image as EXIF says; IMREAD_UNCHANGED does neither."""
UINT8, UINT16 = np.dtype(np.uint8), np.dtype(np.uint16)

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]
"""One image of any size: `(h, w)` grey, `(h, w, 3)` red green blue, `(h, w, 4)` with alpha."""


def decode_image(
    data: bytes, *, max_pixels: int = MOST_PIXELS, name: object = "the image"
) -> Pixels:
    """Decode an image file: PNG, JPEG, WebP, TIFF, BMP and what else OpenCV reads.

    The image is turned upright as its EXIF orientation says. Palettes become colours, CMYK becomes
    red, green, blue; depth and alpha stay as they are in the file.

    Args:
        data: The file.
        max_pixels: Largest height times width. The size in the header is checked before anything
            is decoded.
        name: Subject of the errors, such as a path.

    Returns:
        uint8, or uint16 where the file has 16 bits per channel: `(h, w)` grey, `(h, w, 3)` red
        green blue, or `(h, w, 4)` with alpha last.

    Raises:
        TooManyPixelsError: The header declares more than `max_pixels`.
        ImageError: The file is not an image, is cut short or damaged, or has floats or signed
            integers.
    """
    height, width = image_size(data, name)
    if height * width > max_pixels:
        raise TooManyPixelsError(
            f"{name} declares {width}x{height} pixels; "
            f"at most {max_pixels:,} are decoded; make it smaller"
        )
    image = _decoded(data, name)
    if image.ndim == 3:
        code = cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        image = cv2.cvtColor(image, code)
    turn = orientation(data)
    upright: Pixels = image if turn == UPRIGHT else _turned(image, turn)
    return upright


def read_image(path: Path, *, max_pixels: int = MOST_PIXELS) -> Pixels:
    """Read and decode an image file; the rest is `decode_image`'s.

    Raises:
        ImageError: The file cannot be read, or is not an image that can be used.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error
    return decode_image(data, max_pixels=max_pixels, name=path)


def _decoded(data: bytes, name: object) -> Any:
    """Return uint8 or uint16, `(h, w)`, or `(h, w, 3 or 4)` with blue first."""
    try:
        flags = OPAQUE if data.startswith(JPEG_SIGNATURE) else cv2.IMREAD_UNCHANGED
        image = cv2.imdecode(np.frombuffer(data, UINT8), flags)
    except cv2.error as error:
        raise ImageError(f"{name} cannot be decoded: {error.err}") from error
    if image is None:
        raise ImageError(f"{name} cannot be decoded: the file is cut short or damaged")
    if image.dtype not in (UINT8, UINT16):
        text = f"{name} has {image.dtype} values; images must have 8 or 16 bits per channel"
        raise ImageError(text)
    return image


def _turned(image: Any, turn: int) -> Any:
    """Turn an image by its EXIF orientation; in 5 to 8 rows and columns are swapped (EXIF 2.3)."""
    if turn >= 5:
        image = image.swapaxes(0, 1)
    if turn in (3, 4, 7, 8):
        image = image[::-1]
    if turn in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)
