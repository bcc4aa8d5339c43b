"""The forms that an image may have in a message, and the messages that are no image."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np

from worker.testing.clients.stream_client import npy

Message = tuple[bytes, dict[str, str]]
Form = Callable[[np.ndarray], Message]


def colour(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[..., None], 3, axis=2)


def as_json(image: np.ndarray) -> bytes:
    return json.dumps({"data": "digit", "timestamp": 1.5, "image": image.tolist()}).encode()


def as_file(extension: str, image: np.ndarray) -> bytes:
    return cv2.imencode(extension, image)[1].tobytes()


def of_type(content_type: str, value: bytes, **headers: str) -> Message:
    return value, {"content-type": content_type, **headers}


FORMS: dict[str, Form] = {
    "JSON, the default": lambda image: (as_json(image), {}),
    "JSON by name": lambda image: of_type("application/json", as_json(image)),
    "JSON in colour": lambda image: (as_json(colour(image)), {}),
    "PNG": lambda image: of_type("image/png", as_file(".png", image)),
    "PNG in colour": lambda image: of_type("image/png", as_file(".png", colour(image))),
    "PNG of another size": lambda image: of_type(
        "image/png", as_file(".png", cv2.resize(image, (56, 56)))
    ),
    "JPEG": lambda image: of_type("image/jpeg", as_file(".jpg", image)),
    "npy": lambda image: of_type("application/x-npy", npy(image)),
    "npy with a channel": lambda image: of_type("application/x-npy", npy(image[..., None])),
    "npy in colour": lambda image: of_type("application/x-npy", npy(colour(image))),
    "raw bytes": lambda image: of_type(
        "application/octet-stream", image.tobytes(), shape=",".join(map(str, image.shape))
    ),
}


def png_that_declares(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header declares any size (W3C PNG, 5.3 and 11.2.1)."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


BROKEN: dict[str, tuple[str, Message]] = {
    "text that is no JSON": ("undecodable", (b"not an image", {})),
    "JSON without an image": ("undecodable", (b'{"data": 1}', {})),
    "PNG cut short": ("undecodable", of_type("image/png", b"\x89PNG\r\n\x1a\n\0\0")),
    "JPEG of noise": ("undecodable", of_type("image/jpeg", b"\xff\xd8\xff\xe0 noise")),
    "npy with a pickle": (
        "undecodable",
        of_type("application/x-npy", npy(np.array([{"a": 1}], dtype=object))),
    ),
    "ragged lists": ("bad-shape", (b'{"image": [[1, 2], [3]]}', {})),
    "one row of numbers": ("bad-shape", (b'{"image": [1, 2, 3]}', {})),
    "two channels": ("bad-shape", (as_json(np.zeros((4, 4, 2), int)), {})),
    "raw bytes without a shape": ("bad-shape", of_type("application/octet-stream", b"\1" * 784)),
    "raw bytes of another shape": (
        "bad-shape",
        of_type("application/octet-stream", b"\2" * 783, shape="28,28"),
    ),
    "a value of 256": ("out-of-range", (as_json(np.full((28, 28), 256)), {})),
    "a value below 0": ("out-of-range", (as_json(np.full((28, 28), -1)), {})),
    "unknown content type": ("unknown-content-type", of_type("image/gif", b"GIF89a")),
    "nothing": ("empty", of_type("image/png", b"")),
    "more bytes than allowed": ("too-large", of_type("image/png", b"\3" * 300_000)),
    "a picture of 50,000 x 50,000": (
        "too-many-pixels",
        of_type("image/png", png_that_declares(50_000, 50_000)),
    ),
}
"""By what is wrong: the reason that the dead letter gives, and the message."""

MAX_IMAGE_BYTES = 200_000
"""What the deployment under test allows, so that the test of it is small."""
