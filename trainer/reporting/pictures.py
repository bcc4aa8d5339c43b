"""Pictures of an evaluation as arrays: the confusion matrix, and images with captions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["MOST_COUNTS", "Picture", "as_png", "captioned", "confusion_picture", "shades"]

Picture: TypeAlias = NDArray[np.uint8]

CELL = 34
MOST_COUNTS = 30
SMALLEST_SIDE = 84
CAPTION = 16
INK, PAPER, DEEP = (40, 40, 40), 255, np.array([31, 90, 160])
FONT, FONT_SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.36


def confusion_picture(confusion: Tensor, class_names: Sequence[str]) -> Picture:
    """Draw a confusion matrix: the darker a cell, the larger its share of the true class.

    Args:
        confusion: int64, `(n_classes, n_classes)`, rows are the true classes.
        class_names: By index; names and counts are drawn for up to 30 classes.

    Returns:
        uint8, `(height, width, 3)`, red, green, blue.
    """
    labelled = len(class_names) <= MOST_COUNTS
    cell, margin = (CELL, 96) if labelled else (max(4, 600 // len(class_names)), 0)
    cells = shades(confusion).repeat(cell, 0).repeat(cell, 1)
    picture = np.full((len(cells) + margin, len(cells) + margin, 3), PAPER, dtype=np.uint8)
    picture[margin:, margin:] = cells
    if labelled:
        _label(picture, confusion, class_names, margin)
    return picture


def shades(confusion: Tensor) -> Picture:
    """Return a colour per cell, uint8 `(n_classes, n_classes, 3)`, by its share of its row."""
    counts = confusion.double().numpy()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    mixed = PAPER + shares[..., None] * (DEEP - PAPER)
    return np.asarray(mixed.round(), dtype=np.uint8)


def captioned(images: Picture, captions: Sequence[str]) -> Picture:
    """Draw images in a grid, enlarged where they are small, with a line of text below each.

    Args:
        images: uint8, `(n, height, width, 1 or 3)`, at least one.
        captions: One per image; characters outside ASCII are drawn as question marks.

    Returns:
        uint8, `(height, width, 3)`.
    """
    times = max(1, math.ceil(SMALLEST_SIDE / min(images.shape[1:3])))
    large = images.repeat(times, 1).repeat(times, 2)
    if large.shape[3] == 1:
        large = large.repeat(3, 3)
    columns = math.ceil(math.sqrt(len(images)))
    height, width = large.shape[1] + CAPTION, max(large.shape[2], 110) + 4
    rows = math.ceil(len(images) / columns)
    picture = np.full((rows * height, columns * width, 3), PAPER, dtype=np.uint8)
    for index, (image, caption) in enumerate(zip(large, captions, strict=True)):
        top, left = index // columns * height, index % columns * width
        picture[top : top + large.shape[1], left : left + large.shape[2]] = image
        _write(picture, caption, (left, top + height - 5))
    return picture


def as_png(picture: Picture) -> bytes:
    """Return a picture, grey `(h, w, 1)` or colour `(h, w, 3)`, as a PNG file."""
    blue_first = picture[:, :, ::-1] if picture.shape[2] == 3 else picture
    return cv2.imencode(".png", np.ascontiguousarray(blue_first))[1].tobytes()


def _label(picture: Picture, confusion: Tensor, names: Sequence[str], margin: int) -> None:
    for row, name in enumerate(names):
        start = margin + row * CELL
        _write(picture, name[:14], (2, start + 21))
        _write(picture, name[:4], (start + 2, margin - 6))
        for column, count in enumerate(confusion[row].tolist()):
            if count:
                _write(picture, str(count), (margin + column * CELL + 2, start + 21))
    _write(picture, "true / predicted", (2, 14))


def _write(picture: Picture, text: str, place: tuple[int, int]) -> None:
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(picture, plain, place, FONT, FONT_SIZE, INK, 1, cv2.LINE_AA)
