"""The size and the orientation in the header of an image file, read without decoding it.

A small file can declare a huge image; its size is known, and refused, before it costs anything.
"""

from __future__ import annotations

import io
import struct

from trainer.errors import ImageError, TooManyPixelsError

__all__ = ["JPEG_SIGNATURE", "UPRIGHT", "image_size", "orientation"]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_SIZE = struct.Struct(">II")
"""Width and height in the first chunk, IHDR (W3C PNG, 11.2.1)."""
JPEG_SIGNATURE = b"\xff\xd8\xff"
PNG_CHUNK = struct.Struct(">I4s")
"""Length of the content and type of a chunk (W3C PNG, 5.3)."""
PNG_CHUNK_BYTES = 12  # length, type and checksum
PNG_CHUNKS_FROM = 33  # after the signature and IHDR
EXIF_ORIENTATION = 0x0112
UPRIGHT = 1


def image_size(data: bytes, name: object = "the image") -> tuple[int, int]:
    """Return the height and width in the header of an image file, before it is turned.

    Args:
        data: The file.
        name: Subject of the errors.

    Raises:
        ImageError: The file is not an image, or is cut short or damaged.
    """
    if data.startswith(PNG_SIGNATURE):
        if len(data) < 24:
            raise ImageError(f"{name} is not an image: the PNG is cut short")
        width, height = PNG_SIZE.unpack_from(data, 16)
        return height, width
    if data.startswith(JPEG_SIGNATURE):
        return _jpeg_size(data, name)
    return _other_size(data, name)


def orientation(data: bytes) -> int:
    """Return how a PNG or WebP file must be turned: 1 to 8 as in EXIF; 1 is upright.

    Damaged EXIF counts as upright, as in viewers. All other formats are upright: OpenCV turns JPEG
    and TIFF files by itself.
    """
    has_exif = data.startswith(b"RIFF") and b"EXIF" in data
    if not (has_exif or (data.startswith(PNG_SIGNATURE) and _has_exif_chunk(data))):
        return UPRIGHT
    import PIL.Image  # noqa: PLC0415 - most files do without

    try:
        with PIL.Image.open(io.BytesIO(data)) as image:
            found: int = image.getexif().get(EXIF_ORIENTATION, UPRIGHT)
    except Exception:  # its readers raise anything
        return UPRIGHT
    return found if found in range(1, 9) else UPRIGHT


def _has_exif_chunk(data: bytes) -> bool:
    """Walk through the chunks of a PNG, which may have its EXIF before or after the pixels."""
    position, end = PNG_CHUNKS_FROM, len(data) - PNG_CHUNK_BYTES  # the last chunk is IEND
    while position < end:
        length, kind = PNG_CHUNK.unpack_from(data, position)
        if kind == b"eXIf":
            return True
        position += PNG_CHUNK_BYTES + length
    return False


def _jpeg_size(data: bytes, name: object) -> tuple[int, int]:
    """Walk through the segments of a JPEG until the frame's; Pillow takes 15 times as long.

    ITU-T T.81, B.2.2: the markers C0 to CF except C4, C8 and CC begin a frame; height and width
    follow the segment's length and the sample precision.
    """
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, position + 5)
            return height, width
        else:
            position += 2 + int(struct.unpack_from(">H", data, position + 2)[0])
    raise ImageError(f"{name} is not an image: the JPEG is cut short or damaged (no frame header)")


def _other_size(data: bytes, name: object) -> tuple[int, int]:
    import PIL.Image  # noqa: PLC0415 - PNG and JPEG do without

    try:
        with PIL.Image.open(io.BytesIO(data)) as image:
            width, height = image.size
    except PIL.UnidentifiedImageError:
        raise ImageError(f"{name} is not an image") from None
    except PIL.Image.DecompressionBombError as error:
        raise TooManyPixelsError(f"{name} declares too many pixels: {error}") from None
    except Exception as error:  # its readers raise anything
        raise ImageError(f"{name} is not an image: its header is damaged ({error})") from error
    return height, width
