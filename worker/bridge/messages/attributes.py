"""Kafka's key and headers in the attributes of a Pub/Sub message, and back.

A header becomes the attribute of its name if Pub/Sub allows that. Other headers (binary, repeated,
null, with a long name, or in another order) go into reserved attributes, and a key or headers too
large for those are put in front of the data.
"""

import base64
import binascii
import json
import struct
from collections.abc import Mapping

from worker.kafka.dead_letters import Headers

__all__ = [
    "CLIENT_WORDS",
    "MAX_VALUE_BYTES",
    "frame",
    "put_headers",
    "put_key",
    "restore",
    "text_or_none",
]

RESERVED = "darkroom."
KEY = "darkroom.key"
KEY_BASE64 = "darkroom.key.base64"
HEADERS = "darkroom.headers."
FRAME = "darkroom.frame"

CLIENT_WORDS = frozenset({"topic", "data", "ordering_key", "timeout", "retry"})
"""Arguments of Google's `publish(**attributes)`; no attribute can have such a name there."""
MAX_OWN_ATTRIBUTES = 80
MAX_CHUNKS = 10
MAX_NAME_BYTES = 256
MAX_VALUE_BYTES = 1024
MAX_KEY_BASE64_BYTES = 768


def put_key(attributes: dict[str, str], key: bytes | None) -> bool:
    """Put a key into its attribute; return False when it is too long for one."""
    if key is None:
        return True
    if len(key) <= MAX_VALUE_BYTES and (readable := text_or_none(key)) is not None:
        attributes[KEY] = readable
        return True
    if len(key) <= MAX_KEY_BASE64_BYTES:
        attributes[KEY_BASE64] = base64.b64encode(key).decode()
        return True
    return False


def put_headers(
    attributes: dict[str, str], headers: Headers, forbidden: frozenset[str] = CLIENT_WORDS
) -> bool:
    """Put headers into attributes of their names, and the rest into reserved attributes.

    Returns:
        False when the headers are too large for attributes, which are left as they were.
    """
    if not headers:
        return True
    plain: dict[str, str] = {}
    listed: list[list[str | None]] = []
    for name, value in headers:
        readable = text_or_none(value) if value is not None and is_plain(name, value) else None
        is_free = name not in plain and name not in forbidden
        if readable is not None and is_free and len(plain) < MAX_OWN_ATTRIBUTES:
            plain[name] = readable
            listed.append([name])
        else:
            coded = None if value is None else base64.b64encode(value).decode()
            listed.append([name, coded])
    is_complete = len(plain) == len(listed) and list(plain) == sorted(plain)
    chunks = [] if is_complete else chunks_of(json.dumps(listed, separators=(",", ":")))
    if len(chunks) > MAX_CHUNKS:
        return False
    attributes.update(plain)
    attributes.update((f"{HEADERS}{index}", chunk) for index, chunk in enumerate(chunks))
    return True


def is_plain(name: str, value: bytes) -> bool:
    """Return whether a header can be an attribute of the same name."""
    return (
        0 < len(name) <= MAX_NAME_BYTES
        and len(value) <= MAX_VALUE_BYTES
        and not name.startswith(("goog", RESERVED))
        and len(name.encode()) <= MAX_NAME_BYTES
    )


def frame(attributes: dict[str, str], key: bytes | None, headers: Headers) -> bytes:
    """Return key and headers in the form that is put in front of the data, and mark the message."""
    attributes.pop(KEY, None)
    attributes.pop(KEY_BASE64, None)
    attributes[FRAME] = "1"
    content = {
        "key": None if key is None else base64.b64encode(key).decode(),
        "headers": [
            [name, None if value is None else base64.b64encode(value).decode()]
            for name, value in headers
        ],
    }
    body = json.dumps(content, separators=(",", ":")).encode()
    return struct.pack(">I", len(body)) + body


def restore(
    attributes: Mapping[str, str], data: bytes
) -> tuple[bytes | None, list[tuple[str, bytes | None]], bytes]:
    """Return key, headers and value of a message that came from Kafka."""
    if FRAME in attributes:
        length = struct.unpack_from(">I", data)[0]
        content = json.loads(data[4 : 4 + length])
        pairs = [(name, from_base64(coded)) for name, coded in content["headers"]]
        return from_base64(content["key"]), pairs, data[4 + length :]
    key = attributes[KEY].encode() if KEY in attributes else from_base64(attributes.get(KEY_BASE64))
    if f"{HEADERS}0" in attributes:
        n_chunks = sum(name.startswith(HEADERS) for name in attributes)
        listed = json.loads("".join(attributes[f"{HEADERS}{i}"] for i in range(n_chunks)))
        headers = [
            (entry[0], attributes[entry[0]].encode() if len(entry) == 1 else from_base64(entry[1]))
            for entry in listed
        ]
        return key, headers, data
    names = sorted(name for name in attributes if not name.startswith(RESERVED))
    return key, [(name, attributes[name].encode()) for name in names], data


def text_or_none(value: bytes) -> str | None:
    """Return bytes as text, None when they are not UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def from_base64(value: str | None) -> bytes | None:
    """Return the bytes of a text in base64, None for None."""
    return None if value is None else binascii.a2b_base64(value)


def chunks_of(content: str) -> list[str]:
    """Cut a text of ASCII characters into values of attributes."""
    return [
        content[start : start + MAX_VALUE_BYTES]
        for start in range(0, len(content), MAX_VALUE_BYTES)
    ]
