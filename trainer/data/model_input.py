"""From the pixels of any image to what a model takes: the only way, for training and serving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.data.decoding import UINT8, UINT16, Pixels
from trainer.errors import ImageError, OtherSizeError

if TYPE_CHECKING:
    from trainer.params.fields import Fields

__all__ = ["Image", "InputForm", "to_input"]

Image: TypeAlias = NDArray[np.uint8]
"""One image as a model takes it: `(height, width, channels)`."""

WITH_ALPHA = 4


@dataclass(frozen=True, slots=True)
class InputForm:
    """The form of the images that a model takes: their size in pixels, and grey or colour."""

    height: int
    width: int
    is_colour: bool = False

    @classmethod
    def of(cls, params: Fields) -> InputForm:
        """Return the form that params describe."""
        return cls(params.image_height, params.image_width, params.is_image_color)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image, `(height, width, channels)`."""
        return self.height, self.width, 3 if self.is_colour else 1

    def __str__(self) -> str:
        """Describe it in an error message."""
        return f"{self.width}x{self.height} {'colour' if self.is_colour else 'grey'} images"


def to_input(
    pixels: Pixels, form: InputForm, *, resize: bool = True, name: object = "the image"
) -> Image:
    """Bring one image to the depth, channels and size of a model's input, in this order.

    1. Depth: 16 bits become 8 by division by 257; the maximum stays the maximum.
    2. Alpha: transparent parts become white, as viewers show them.
    3. Colour for a grey model: 0.299 red + 0.587 green + 0.114 blue (ITU-R BT.601, as in OpenCV
       and Pillow). Grey for a colour model: three equal channels.
    4. Size, each side by itself: first a side that is too long is averaged (OpenCV's INTER_AREA),
       then a side that is too short is interpolated (INTER_LINEAR). So 40x10 to 28x28 averages
       columns and interpolates rows; the aspect ratio is not kept.

    Args:
        pixels: `(h, w)` or `(h, w, 1)` grey, `(h, w, 3)` red green blue, or `(h, w, 4)` with
            alpha; uint8 or uint16.
        form: What the model takes.
        resize: Whether other sizes are resized; otherwise they are an error.
        name: Subject of the errors, such as a path.

    Returns:
        uint8, `(form.height, form.width, 1 or 3)`; it may share memory with `pixels`.

    Raises:
        OtherSizeError: The image has another size, and `resize` is False.
        ImageError: The array is not an image.
    """
    image: Any = pixels if pixels.dtype == UINT8 else _eight_bits(pixels, name)
    if image.ndim != 2:
        image = _without_alpha(image, name)
        if image.ndim == 3 and not form.is_colour:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = image.shape[:2]
    if height != form.height or width != form.width:
        if not resize:
            raise OtherSizeError(name, (height, width), (form.height, form.width))
        image = _resized(image, form, name)
    if image.ndim == 2 and form.is_colour:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    fitted: Image = image if image.ndim == 3 else image.reshape(form.height, form.width, 1)
    return fitted


def _eight_bits(pixels: Pixels, name: object) -> Image:
    if pixels.dtype != UINT16:
        text = f"{name} has {pixels.dtype} values; images must have 8 or 16 bits per channel"
        raise ImageError(text)
    scaled = pixels.astype(np.uint32)
    scaled += 128  # in place: the image may be large
    scaled //= 257
    return scaled.astype(np.uint8)


def _without_alpha(image: Image, name: object) -> Image:
    """Return `(h, w)` or `(h, w, 3)` for an image with 1, 3 or 4 channels."""
    if image.ndim != 3 or not image.size:
        raise ImageError(f"{name} has shape {image.shape}, which is not an image's")
    channels = image.shape[2]
    if channels == 3:
        return image
    if channels == 1:
        return image[:, :, 0]
    if channels != WITH_ALPHA:
        raise ImageError(f"{name} has {channels} channels; images must have 1, 3 or 4")
    blended, alpha = image[:, :, :3].astype(np.uint16), image[:, :, 3:].astype(np.uint16)
    blended *= alpha
    blended += 255 * (255 - alpha) + 127
    blended //= 255
    return blended.astype(np.uint8)


def _resized(image: Any, form: InputForm, name: object) -> Any:
    height, width = image.shape[:2]
    try:
        if height > form.height or width > form.width:
            height, width = min(height, form.height), min(width, form.width)
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        if height < form.height or width < form.width:
            image = cv2.resize(image, (form.width, form.height), interpolation=cv2.INTER_LINEAR)
    except cv2.error as error:
        raise ImageError(f"{name} has {width}x{height} pixels: {error.err}") from error
    return image
