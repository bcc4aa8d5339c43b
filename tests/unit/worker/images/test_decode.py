"""From messages to images, and to reasons."""

import io
import struct
import zlib
from contextlib import suppress

import cv2
import numpy as np
import orjson
import pytest
from aiokafka.structs import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from worker.errors import BadImage
from worker.images.decode import CONTENT_TYPES, Limits, decode

GREY = np.arange(28 * 30, dtype=np.uint8).reshape(28, 30)
COLOUR = np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3)
LIMITS = Limits(n_bytes=100_000, n_pixels=10_000)
REASONS = {
    "bad-shape",
    "empty",
    "out-of-range",
    "too-large",
    "too-many-pixels",
    "undecodable",
    "unknown-content-type",
}


def record(value: bytes | None, **headers: str) -> ConsumerRecord[bytes, bytes]:
    pairs = [(name.replace("_", "-"), text.encode()) for name, text in headers.items()]
    return ConsumerRecord("images", 3, 14, 0, 0, None, value, None, 0, len(value or b""), pairs)


def npy(array: NDArray[np.generic]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npy_with_header(header: str) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def npy_that_declares(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    return npy_with_header(repr({"descr": kind, "fortran_order": False, "shape": shape}))


def encoded(suffix: str, pixels: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(suffix, pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1])


def reason(value: bytes | None, limits: Limits = LIMITS, **headers: str) -> str:
    with pytest.raises(BadImage) as problem:
        decode(record(value, **headers), limits)
    assert problem.value.reason in REASONS
    return problem.value.reason


@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("content_type", sorted(set(CONTENT_TYPES) - {"image/jpeg"}))
def test_every_lossless_form_gives_the_pixels_back(
    content_type: str, pixels: NDArray[np.uint8]
) -> None:
    """Grey and colour (RGB) arrive as they were sent."""
    value = {
        "application/json": orjson.dumps({"image": pixels.tolist()}),
        "application/octet-stream": pixels.tobytes(),
        "application/x-npy": npy(pixels),
        "image/png": encoded(".png", pixels),
    }[content_type]
    shape = ",".join(map(str, pixels.shape))
    (image,) = decode(record(value, content_type=content_type, shape=shape), LIMITS)
    np.testing.assert_array_equal(image.pixels, pixels)


def test_a_jpeg_is_decoded_in_rgb_order() -> None:
    """JPEG loses a little, but red stays red."""
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    (image,) = decode(record(encoded(".jpg", red), content_type="image/jpeg"), LIMITS)
    np.testing.assert_allclose(image.pixels, red, atol=4)


def test_json_is_the_default_and_parameters_of_a_type_are_ignored() -> None:
    """A message without a content type is JSON; `; charset=utf-8` changes nothing."""
    value = orjson.dumps({"data": "x", "timestamp": 1.5, "image": GREY.tolist()})
    for headers in ({}, {"content_type": "Application/JSON; charset=utf-8"}):
        (image,) = decode(record(value, **headers), LIMITS)
        np.testing.assert_array_equal(image.pixels, GREY)


def test_a_message_may_carry_several_images() -> None:
    """An NxHxWxC array is N images, each with its place after the id."""
    batch = np.stack([GREY, 255 - GREY])[..., None]
    images = decode(record(npy(batch), content_type="application/x-npy", id="shot"), LIMITS)
    assert [image.id for image in images] == ["shot-0", "shot-1"]
    np.testing.assert_array_equal(images[1].pixels, 255 - GREY)


@pytest.mark.parametrize(
    ("payload_id", "header_id", "expected"),
    [("inner", "outer", "outer"), ("inner", "", "inner"), (7, "", "7"), (None, "", "images-3-14")],
)
def test_an_id_comes_from_the_header_or_the_json_or_the_place(
    payload_id: object, header_id: str, expected: str
) -> None:
    """Without an id of its own an image has the same one at each delivery."""
    payload = {"image": GREY.tolist(), "id": payload_id}
    (image,) = decode(record(orjson.dumps(payload), id=header_id), LIMITS)
    assert image.id == expected


@pytest.mark.parametrize("name", ["content-type", "id", "shape"])
def test_a_header_without_a_value_is_as_good_as_none(name: str) -> None:
    """Kafka lets a header be null, which changes nothing."""
    message = record(b'{"image": [[1]]}')
    message.headers.append((name, None))
    (image,) = decode(message, LIMITS)
    assert image.id == "images-3-14"


def test_raw_bytes_with_a_null_shape_have_a_bad_one() -> None:
    """A null header is answered with what is needed."""
    message = record(b"1234", content_type="application/octet-stream")
    message.headers.append(("shape", None))
    with pytest.raises(BadImage, match="needs a shape header") as problem:
        decode(message, LIMITS)
    assert problem.value.reason == "bad-shape"


def png_that_declares(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content_type", "value", "shape", "expected"),
    [
        ("application/json", None, "", "empty"),
        ("application/json", b"", "", "empty"),
        ("application/json", b'{"image": []}', "", "empty"),
        ("application/json", b"{", "", "undecodable"),
        ("application/json", b"[1, 2]", "", "undecodable"),
        ("application/json", b'{"picture": [[1]]}', "", "undecodable"),
        ("application/json", b'{"image": [[NaN]]}', "", "undecodable"),
        ("application/json", b'{"image": [[1, 2], [3]]}', "", "bad-shape"),
        ("application/json", b'{"image": [1, 2]}', "", "bad-shape"),
        ("application/json", b'{"image": [[[1, 2]]]}', "", "bad-shape"),
        ("application/json", b'{"image": 5}', "", "bad-shape"),
        ("application/json", b'{"image": [[256]]}', "", "out-of-range"),
        ("application/json", b'{"image": [[-1]]}', "", "out-of-range"),
        ("application/json", b'{"image": [[0.5]]}', "", "out-of-range"),
        ("application/json", b'{"image": [["a"]]}', "", "out-of-range"),
        ("application/json", b'{"image": [[null]]}', "", "out-of-range"),
        ("application/json", b'{"image": [[true]]}', "", "out-of-range"),
        ("application/json", b'{"image": [[1e300]]}', "", "out-of-range"),
        ("application/octet-stream", b"1234", "2,3", "bad-shape"),
        ("application/octet-stream", b"1234", "", "bad-shape"),
        ("application/octet-stream", b"1234", "two,two", "bad-shape"),
        ("application/octet-stream", b"1234", "-2,-2", "bad-shape"),
        ("application/octet-stream", b"1234", "99999,99999", "too-many-pixels"),
        ("application/octet-stream", b"1234", "1,1,99999999999999999999", "bad-shape"),
        ("application/x-npy", b"no npy", "", "undecodable"),
        ("application/x-npy", npy(GREY)[:-1], "", "undecodable"),
        ("application/x-npy", npy(np.array([{}], object)), "", "undecodable"),
        ("application/x-npy", npy(np.full((2, 2), np.nan)), "", "out-of-range"),
        ("application/x-npy", npy(np.zeros((0, 4, 4, 1), np.uint8)), "", "empty"),
        ("application/x-npy", npy(np.zeros((20_000, 1, 1, 1), np.uint8)), "", "too-many-pixels"),
        ("application/x-npy", npy_that_declares((1, 1, 10**13)), "", "undecodable"),
        ("application/x-npy", npy_that_declares((1, 1, 2**63)), "", "undecodable"),
        ("application/x-npy", npy_that_declares((100, 100), "<U99999999"), "", "undecodable"),
        ("application/x-npy", npy_that_declares((True, 4)) + b"1234", "", "undecodable"),
        ("application/x-npy", npy_with_header("(" * 100), "", "undecodable"),
        ("application/x-npy", npy_with_header("{[]: 1}"), "", "undecodable"),
        ("image/png", b"no png", "", "undecodable"),
        ("image/png", encoded(".jpg", GREY), "", "undecodable"),
        ("image/png", encoded(".png", GREY)[:-20], "", "undecodable"),
        ("image/png", png_that_declares(50_000, 50_000), "", "too-many-pixels"),
        ("image/png", png_that_declares(0, 5), "", "undecodable"),
        ("image/jpeg", encoded(".jpg", GREY)[:20], "", "undecodable"),
        ("image/jpeg", encoded(".jpg", GREY)[:-20], "", "undecodable"),
        ("image/jpeg", encoded(".jpg", np.zeros((200, 200), np.uint8)), "", "too-many-pixels"),
        ("image/gif", b"GIF89a", "", "unknown-content-type"),
    ],
)
def test_what_is_no_image_gets_its_reason(
    content_type: str, value: bytes | None, shape: str, expected: str
) -> None:
    """Each kind of bad message has its word, and none is a traceback."""
    assert reason(value, content_type=content_type, shape=shape) == expected


def test_a_message_above_the_limit_is_not_decoded() -> None:
    """The limit on bytes comes first and the error names both numbers."""
    with pytest.raises(BadImage, match="840 bytes; at most 839") as problem:
        decode(
            record(GREY.tobytes(), content_type="application/octet-stream", shape="28,30"),
            Limits(n_bytes=839, n_pixels=10_000),
        )
    assert problem.value.reason == "too-large"


@given(
    value=st.binary(max_size=200),
    content_type=st.sampled_from([*CONTENT_TYPES, "text/plain", "\N{DIGIT ZERO};;"]),
    start=st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"\x93NUMPY\x01\x00", b'{"image":']
    ),
    shape=st.text(max_size=8),
)
def test_no_bytes_break_the_decoder(
    value: bytes, content_type: str, start: bytes, shape: str
) -> None:
    """Whatever arrives is images or a reason."""
    with suppress(BadImage):
        images = decode(record(start + value, content_type=content_type, shape=shape), LIMITS)
        assert all(image.pixels.dtype == np.uint8 for image in images)
