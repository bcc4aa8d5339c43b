"""One picture in the forms that cameras, scanners and drawing programs store."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ORIENTATION = 0x0112


def drawing(height: int, width: int) -> NDArray[np.uint8]:
    """Return a colour picture without symmetry: every turn of it is another picture."""
    rows, columns = np.mgrid[:height, :width]
    red = 255 * rows / max(height - 1, 1)
    green = 255 * columns / max(width - 1, 1)
    blue = np.where(rows < columns, 220, 30)
    return np.dstack([red, green, blue]).astype(np.uint8)


def encoded(image: Image.Image, form: str, orientation: int | None = None) -> bytes:
    """Return a file; with an orientation its EXIF block says how it has to be turned."""
    stream = io.BytesIO()
    if orientation is None:
        image.save(stream, form)
        return stream.getvalue()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    more = {"lossless": True} if form == "WEBP" else {}
    image.save(stream, form, exif=exif, **more)
    return stream.getvalue()


def files(height: int = 28, width: int = 28) -> dict[str, bytes]:
    """Return PNG and JPEG files of one picture, by name."""
    colour = Image.fromarray(drawing(height, width))
    grey = colour.convert("L")
    ink = Image.new("RGBA", colour.size, (0, 0, 0, 0))
    ink.putalpha(grey)
    deep = np.asarray(grey, np.uint16) * 257 + 100
    return {
        "grey.png": encoded(grey, "PNG"),
        "colour.png": encoded(colour, "PNG"),
        "drawn-in-alpha.png": encoded(ink, "PNG"),
        "grey-with-alpha.png": encoded(Image.merge("LA", [grey, grey]), "PNG"),
        "palette.png": encoded(colour.quantize(16), "PNG"),
        "two-colours.png": encoded(grey.convert("1"), "PNG"),
        "16-bit.png": encoded(Image.fromarray(deep), "PNG"),
        "turned.png": encoded(colour, "PNG", 8),
        "grey.jpg": encoded(grey, "JPEG"),
        "colour.jpg": encoded(colour, "JPEG"),
        "cmyk.jpg": encoded(colour.convert("CMYK"), "JPEG"),
        "turned.jpg": encoded(colour, "JPEG", 6),
    }
