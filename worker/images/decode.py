"""From the bytes of a message to images.

Every form a message may have is one function in `FORMS`, by content type. What cannot be
an image raises `BadImage` with a reason from `Reason`, and costs little: sizes are read from the
header and checked before anything is decoded.
"""

import io
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import orjson
from aiokafka.structs import ConsumerRecord
from numpy.typing import NDArray

from worker.errors import BadImage

__all__ = ["CONTENT_TYPES", "Image", "Limits", "decode"]

JSON = "application/json"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
GREY, COLOUR = 1, 3

Pixels = NDArray[np.uint8]
"""One image, HxW (grey) or HxWx3 (RGB)."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image and the id that its prediction will carry."""

    id: str
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest message that is decoded."""

    n_bytes: int
    n_pixels: int

    def check_pixels(self, shape: Sequence[int]) -> None:
        """Refuse an image, or several in one message, by the size that its header declares."""
        height_width = shape if len(shape) == 2 else shape[:-1]
        n_pixels = 1
        for length in height_width:
            n_pixels *= int(length)
        if n_pixels > self.n_pixels:
            raise BadImage(
                "too-many-pixels",
                f"the image declares {' x '.join(map(str, shape))}, which is {n_pixels:,} pixels; "
                f"at most {self.n_pixels:,} are decoded (DARKROOM_MAX_IMAGE_PIXELS)",
            )


def decode(record: ConsumerRecord[bytes, bytes], limits: Limits) -> list[Image]:
    """Decode one message: one image, or those of an NxHxWxC array with `-0`, `-1` after the id.

    Raises:
        BadImage: the message is no image that can be served, and why.
    """
    value = record.value
    if not value:
        raise BadImage("empty", "the message has no value; send an image in it")
    if len(value) > limits.n_bytes:
        raise BadImage(
            "too-large",
            f"the message has {len(value):,} bytes; "
            f"at most {limits.n_bytes:,} are decoded (DARKROOM_MAX_IMAGE_BYTES)",
        )
    headers = {name.lower(): content for name, content in record.headers if content is not None}
    form = _form(headers)
    inner_id, images = form(value, headers, limits)
    outer_id = headers.get("id")
    image_id = (
        outer_id.decode("utf-8", "replace")
        if outer_id
        else inner_id or f"{record.topic}-{record.partition}-{record.offset}"
    )
    if isinstance(images, np.ndarray):
        return [Image(image_id, images)]
    return [Image(f"{image_id}-{index}", pixels) for index, pixels in enumerate(images)]


Decoded = tuple[str | None, Pixels | list[Pixels]]
"""An id, where the form carries one, and one image or several."""
Form = Callable[[bytes, Mapping[str, bytes], Limits], Decoded]


def _form(headers: Mapping[str, bytes]) -> Form:
    name = headers.get("content-type", JSON.encode()).decode("utf-8", "replace")
    form = FORMS.get(name.partition(";")[0].strip().lower())
    if form is None:
        raise BadImage(
            "unknown-content-type",
            f"content-type {name!r} is not known; send one of {', '.join(CONTENT_TYPES)}",
        )
    return form


def _from_json(value: bytes, _headers: Mapping[str, bytes], limits: Limits) -> Decoded:
    try:
        payload = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise BadImage(
            "undecodable",
            f"the message is no JSON ({error}); what is not JSON needs a content-type header",
        ) from None
    if not isinstance(payload, dict) or "image" not in payload:
        raise BadImage(
            "undecodable", 'the JSON has no "image"; send {"image": [[0, 255, ...], ...]}'
        )
    array = _from_rows(payload["image"])
    image_id = payload.get("id")
    return None if image_id is None else str(image_id), _one_image(array, limits)


def _from_rows(rows: Any) -> NDArray[Any]:
    """Return nested lists as an array; grey bytes, the usual case, in a fifth of numpy's time."""
    if isinstance(rows, list) and all(type(row) is list for row in rows):
        with suppress(TypeError, ValueError):  # whatever is no byte is told below
            lines = list(map(bytes, rows))
            if len(set(map(len, lines))) == 1 and lines[0] and type(rows[0][0]) is int:
                return np.frombuffer(b"".join(lines), np.uint8).reshape(len(lines), -1)
    try:
        return np.array(rows)
    except ValueError:
        raise BadImage(
            "bad-shape", '"image" is ragged: its rows differ in length; send HxW or HxWx3'
        ) from None


def _from_npy(value: bytes, _headers: Mapping[str, bytes], limits: Limits) -> Decoded:
    array = _npy_array(value, limits)
    if array.ndim != 4:
        return None, _one_image(array, limits)
    if not len(array):
        raise BadImage("empty", f"the npy array has shape {array.shape}: there is no image in it")
    return None, [_one_image(image, limits) for image in array]


def _npy_array(value: bytes, limits: Limits) -> NDArray[Any]:
    stream = io.BytesIO(value)
    try:
        version = np.lib.format.read_magic(stream)
        read_header: Any = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(stream)
        limits.check_pixels(shape)
        _check_bytes(math.prod(shape) * dtype.itemsize, len(value) - stream.tell())
        stream.seek(0)
        array: NDArray[Any] = np.load(stream, allow_pickle=False)
    except BadImage:
        raise
    except Exception as error:  # the header is Python: its tokenizer and parser raise anything
        raise BadImage("undecodable", f"the message is no npy array of numbers: {error}") from None
    return array


def _check_bytes(n_declared: int, n_bytes: int) -> None:
    """Refuse an npy array that is cut short: np.load takes the memory for it before it reads."""
    if n_declared > n_bytes:
        raise BadImage(
            "undecodable",
            f"the npy array is cut short: it declares {n_declared:,} bytes of values "
            f"and has {n_bytes:,}",
        )


def _from_raw(value: bytes, headers: Mapping[str, bytes], limits: Limits) -> Decoded:
    text = headers.get("shape", b"").decode("utf-8", "replace")
    try:
        shape = tuple(int(length) for length in text.strip("[]() ").split(",") if length.strip())
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise BadImage(
            "bad-shape",
            f"application/octet-stream needs a shape header such as 28,28 or 28,28,3, not {text!r}",
        )
    limits.check_pixels(shape)
    n_bytes = math.prod(shape)
    if n_bytes != len(value):
        raise BadImage(
            "bad-shape",
            f"shape {text} is {n_bytes:,} bytes, one a value, but the message has {len(value):,}",
        )
    return None, _one_image(np.frombuffer(value, np.uint8).reshape(shape), limits)


def _from_png(value: bytes, _headers: Mapping[str, bytes], limits: Limits) -> Decoded:
    if not value.startswith(PNG_SIGNATURE) or len(value) < 24:
        raise BadImage("undecodable", "the message is no PNG: it does not begin like one")
    width, height = struct.unpack_from(">II", value, 16)  # W3C PNG, 11.2.1: IHDR is first
    return None, _from_file(value, (height, width), limits)


def _from_jpeg(value: bytes, _headers: Mapping[str, bytes], limits: Limits) -> Decoded:
    if not value.startswith(JPEG_SIGNATURE):
        raise BadImage("undecodable", "the message is no JPEG: it does not begin like one")
    return None, _from_file(value, jpeg_size(value), limits)


def jpeg_size(value: bytes) -> tuple[int, int]:
    """Return the height and width that a JPEG's frame header declares.

    ITU-T T.81, B.2.2: markers C0 to CF but C4, C8 and CC begin a frame; its sizes follow
    the segment's length and the sample precision.

    Raises:
        BadImage: there is no frame header.
    """
    position = 2
    while position + 9 <= len(value) and value[position] == 0xFF:
        marker = value[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", value, position + 5)
            return height, width
        else:
            position += 2 + int(struct.unpack_from(">H", value, position + 2)[0])
    raise BadImage("undecodable", "the JPEG has no frame header: it is cut short or damaged")


def _from_file(value: bytes, height_width: tuple[int, int], limits: Limits) -> Pixels:
    limits.check_pixels(height_width)
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(value, np.uint8), flags)
    except cv2.error as error:
        raise BadImage("undecodable", f"the image cannot be decoded: {error.err}") from None
    if pixels is None:
        raise BadImage("undecodable", "the image cannot be decoded: it is cut short or damaged")
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return pixels.astype(np.uint8, copy=False)


def _one_image(array: NDArray[Any], limits: Limits) -> Pixels:
    """Check an array of numbers and return it as uint8, HxW or HxWx3."""
    if array.size == 0:
        raise BadImage("empty", f"the image has shape {array.shape}: there is no pixel in it")
    if array.ndim == 3 and array.shape[-1] == GREY:
        array = array[..., 0]
    if array.ndim != 2 and (array.ndim != 3 or array.shape[-1] != COLOUR):
        raise BadImage(
            "bad-shape",
            f"the image has shape {array.shape}; send HxW (grey) or HxWx3 (colour), "
            "or several at once as npy NxHxWxC",
        )
    limits.check_pixels(array.shape)
    return array if array.dtype == np.uint8 else _as_bytes(array)


def _as_bytes(array: NDArray[Any]) -> Pixels:
    if array.dtype.kind not in "iuf":
        raise BadImage(
            "out-of-range",
            "the image holds values that are no numbers, or far too large ones; "
            "send whole numbers from 0 to 255",
        )
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 255):
        wrong = low if not low >= 0 else high
        raise BadImage(
            "out-of-range", f"the image holds the value {wrong}; send whole numbers from 0 to 255"
        )
    as_bytes = array.astype(np.uint8)
    if array.dtype.kind == "f" and not np.array_equal(as_bytes, array):
        raise BadImage(
            "out-of-range",
            f"the image holds fractions (from {low} to {high}); send whole numbers from 0 to 255, "
            "so multiply by 255 what is scaled to 1",
        )
    return as_bytes


FORMS: Mapping[str, Form] = {
    JSON: _from_json,
    "image/png": _from_png,
    "image/jpeg": _from_jpeg,
    "application/x-npy": _from_npy,
    "application/octet-stream": _from_raw,
}
CONTENT_TYPES = tuple(FORMS)
