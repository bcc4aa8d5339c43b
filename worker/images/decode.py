"""From the bytes of a message to images.

Each form that a message may have is one function in `FORMS`, by content type. A message that cannot
be decoded raises `BadImage` with a `Reason`, and costs little: sizes are read from the header and
checked before anything is decoded.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import orjson
from aiokafka.structs import ConsumerRecord
from numpy.typing import NDArray

import trainer
from worker.errors import BadImage

__all__ = ["CONTENT_TYPES", "Image", "Limits", "Pixels", "decode"]

JSON = b"application/json"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
GREY, COLOUR = 1, 3

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]
"""One image of any size: HxW (grey), HxWx3 (RGB) or HxWx4 (with alpha), as `trainer.to_input`
takes it."""


class Image(NamedTuple):
    """One image and the id that its prediction will carry."""

    id: str
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest message that is decoded."""

    n_bytes: int
    n_pixels: int

    def check_pixels(self, shape: Sequence[int]) -> None:
        """Refuse an array, of one image or of several, by the shape that its header declares."""
        n_pixels = math.prod(shape if len(shape) == 2 else shape[:-1])
        if n_pixels > self.n_pixels:
            raise BadImage(
                "too-many-pixels",
                f"the image declares {' x '.join(map(str, shape))}, which is {n_pixels:,} pixels; "
                f"at most {self.n_pixels:,} are decoded (DARKROOM_MAX_IMAGE_PIXELS)",
            )


def decode(record: ConsumerRecord[bytes, bytes], limits: Limits) -> list[Image]:
    """Decode one message: one image, or those of an NxHxWxC array with `-0`, `-1` after the id.

    Raises:
        BadImage: The message is not an image that can be served, and why.
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
    form = FORMS.get(headers.get("content-type", JSON)) or _form(headers)
    outer_id = headers.get("id")
    image_id = (
        outer_id.decode("utf-8", "replace")
        if outer_id
        else f"{record.topic}-{record.partition}-{record.offset}"
    )
    return form(value, headers, limits, image_id)


Headers: TypeAlias = Mapping[str, bytes]
Form: TypeAlias = Callable[[bytes, Headers, Limits, str], list[Image]]
"""Takes a message's value, its headers, the limits, and the id of the image."""


def _form(headers: Headers) -> Form:
    """Return the form of a content type in any spelling, and with parameters behind it."""
    name = headers["content-type"].decode("utf-8", "replace")
    form = FORMS.get(name.partition(";")[0].strip().lower().encode())
    if form is None:
        raise BadImage(
            "unknown-content-type",
            f"unknown content-type {name!r}; send one of {', '.join(CONTENT_TYPES)}",
        )
    return form


def _from_json(value: bytes, headers: Headers, limits: Limits, image_id: str) -> list[Image]:
    try:
        payload = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise BadImage(
            "undecodable",
            f"the message is not JSON ({error}); set the content-type header for other forms",
        ) from None
    if not isinstance(payload, dict) or "image" not in payload:
        raise BadImage(
            "undecodable", 'the JSON has no "image"; send {"image": [[0, 255, ...], ...]}'
        )
    pixels = _one_image(_from_rows(payload["image"]))
    limits.check_pixels(pixels.shape)
    inner_id = payload.get("id")
    if inner_id is not None and not headers.get("id"):
        image_id = str(inner_id)
    return [Image(image_id, pixels)]


def _from_rows(rows: Any) -> NDArray[Any]:
    """Return nested lists as an array; grey bytes, the usual case, in a fifth of numpy's time."""
    if isinstance(rows, list) and all(type(row) is list for row in rows):
        with suppress(TypeError, ValueError):  # values that are not bytes are reported below
            lines = list(map(bytes, rows))
            if len(set(map(len, lines))) == 1 and lines[0] and type(rows[0][0]) is int:
                return np.frombuffer(b"".join(lines), np.uint8).reshape(len(lines), -1)
    try:
        return np.array(rows)
    except ValueError:
        raise BadImage(
            "bad-shape", '"image" is ragged: its rows differ in length; send HxW or HxWx3'
        ) from None


def _from_npy(value: bytes, _headers: Headers, limits: Limits, image_id: str) -> list[Image]:
    array = _npy_array(value, limits)
    if array.ndim != 4:
        return [Image(image_id, _one_image(array))]
    if not len(array):
        raise BadImage("empty", f"the npy array has shape {array.shape}: it holds no image")
    return [Image(f"{image_id}-{index}", _one_image(one)) for index, one in enumerate(array)]


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
        _check_complete(math.prod(shape) * dtype.itemsize, len(value) - stream.tell())
        stream.seek(0)
        array: NDArray[Any] = np.load(stream, allow_pickle=False)
    except BadImage:
        raise
    except Exception as error:  # the header is Python: its tokenizer and parser raise anything
        raise BadImage(
            "undecodable", f"the message is not an npy array of numbers: {error}"
        ) from None
    return array


def _check_complete(n_declared: int, n_bytes: int) -> None:
    """Refuse an npy array that is cut short: np.load allocates its memory before it reads."""
    if n_declared > n_bytes:
        raise BadImage(
            "undecodable",
            f"the npy array is cut short: it declares {n_declared:,} bytes of values "
            f"and has {n_bytes:,}",
        )


def _from_raw(value: bytes, headers: Headers, limits: Limits, image_id: str) -> list[Image]:
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
            f"the shape header says {text}, which is {n_bytes:,} bytes, one per value, "
            f"but the message has {len(value):,}",
        )
    return [Image(image_id, _one_image(np.frombuffer(value, np.uint8).reshape(shape)))]


def _from_png(value: bytes, _headers: Headers, limits: Limits, image_id: str) -> list[Image]:
    if not value.startswith(PNG_SIGNATURE):
        raise BadImage("undecodable", "the message is not a PNG: it does not begin like one")
    return [Image(image_id, _from_file(value, limits))]


def _from_jpeg(value: bytes, _headers: Headers, limits: Limits, image_id: str) -> list[Image]:
    if not value.startswith(JPEG_SIGNATURE):
        raise BadImage("undecodable", "the message is not a JPEG: it does not begin like one")
    return [Image(image_id, _from_file(value, limits))]


def _from_file(value: bytes, limits: Limits) -> Pixels:
    try:
        return trainer.decode_image(value, max_pixels=limits.n_pixels)
    except trainer.TooManyPixelsError as error:
        raise BadImage("too-many-pixels", f"{error}, or raise DARKROOM_MAX_IMAGE_PIXELS") from None
    except trainer.ImageError as error:
        raise BadImage("undecodable", str(error)) from None


def _one_image(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Check an array of numbers and return it as uint8, HxW or HxWx3."""
    if array.size == 0:
        raise BadImage("empty", f"the image has shape {array.shape}: it has no pixels")
    if array.ndim == 3 and array.shape[-1] == GREY:
        array = array[..., 0]
    if array.ndim != 2 and (array.ndim != 3 or array.shape[-1] != COLOUR):
        raise BadImage(
            "bad-shape",
            f"the image has shape {array.shape}; send HxW (grey) or HxWx3 (colour), "
            "or several at once as npy NxHxWxC",
        )
    return array if array.dtype == np.uint8 else _as_bytes(array)


def _as_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype.kind not in "iuf":
        raise BadImage(
            "out-of-range",
            "the image holds values that are not numbers, or far too large; "
            "send integers from 0 to 255",
        )
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 255):
        wrong = low if not low >= 0 else high
        raise BadImage(
            "out-of-range", f"the image holds the value {wrong}; send integers from 0 to 255"
        )
    as_bytes = array.astype(np.uint8)
    if array.dtype.kind == "f" and not np.array_equal(as_bytes, array):
        raise BadImage(
            "out-of-range",
            f"the image holds fractions (from {low} to {high}); send integers from 0 to 255; "
            "if your values are scaled to 0..1, multiply them by 255",
        )
    return as_bytes


FORMS: Mapping[bytes, Form] = {
    JSON: _from_json,
    b"image/png": _from_png,
    b"image/jpeg": _from_jpeg,
    b"application/x-npy": _from_npy,
    b"application/octet-stream": _from_raw,
}
CONTENT_TYPES = tuple(name.decode() for name in FORMS)
