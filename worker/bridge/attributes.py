"""Kafka's key and headers in the attributes of a Pub/Sub message, where Pub/Sub can hold them.

What it cannot (binary, repeated or null headers, their order, long names) goes into reserved
attributes, and what is too much for those in front of the data.
"""

import base64
import binascii
import json
import struct
from collections.abc import Mapping, Sequence

__all__ = [
    "CLIENT_WORDS",
    "MAX_VALUE_BYTES",
    "Headers",
    "decoded",
    "frame",
    "put_headers",
    "put_key",
    "restored",
]

Headers = Sequence[tuple[str, bytes | None]]

RESERVED = "darkroom."
KEY = "darkroom.key"
KEY_BASE64 = "darkroom.key.base64"
HEADERS = "darkroom.headers."
FRAME = "darkroom.frame"

CLIENT_WORDS = frozenset({"topic", "data", "ordering_key", "timeout", "retry"})
"""Arguments of Google's `publish(**attributes)`, which no attribute can be called there."""
MAX_OWN_ATTRIBUTES = 80
MAX_CHUNKS = 10
MAX_NAME_BYTES = 256
MAX_VALUE_BYTES = 1024
MAX_KEY_BASE64_BYTES = 768


def put_key(attributes: dict[str, str], key: bytes | None) -> bool:
    """Put a key into its attribute; false when it is too long for one."""
    if key is None:
        return True
    if len(key) <= MAX_VALUE_BYTES and (readable := decoded(key)) is not None:
        attributes[KEY] = readable
        return True
    if len(key) <= MAX_KEY_BASE64_BYTES:
        attributes[KEY_BASE64] = base64.b64encode(key).decode()
        return True
    return False


def put_headers(
    attributes: dict[str, str], headers: Headers, forbidden: frozenset[str] = CLIENT_WORDS
) -> bool:
    """Put headers into attributes of their names, and what those do not say into reserved ones.

    Returns:
        False when it is too much for them; the attributes are as before then.
    """
    if not headers:
        return True
    plain: dict[str, str] = {}
    listed: list[list[str | None]] = []
    for name, value in headers:
        readable = decoded(value) if value is not None and is_plain(name, value) else None
        is_free = name not in plain and name not in forbidden
        if readable is not None and is_free and len(plain) < MAX_OWN_ATTRIBUTES:
            plain[name] = readable
            listed.append([name])
        else:
            coded = None if value is None else base64.b64encode(value).decode()
            listed.append([name, coded])
    is_said = len(plain) == len(listed) and list(plain) == sorted(plain)
    chunks = [] if is_said else chunked(json.dumps(listed, separators=(",", ":")))
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
    """Return key and headers in the form that stands in front of the data, and mark that."""
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


def restored(
    attributes: Mapping[str, str], data: bytes
) -> tuple[bytes | None, list[tuple[str, bytes | None]], bytes]:
    """Return key, headers and value of a message that came from Kafka."""
    if FRAME in attributes:
        length = struct.unpack_from(">I", data)[0]
        content = json.loads(data[4 : 4 + length])
        pairs = [(name, uncoded(coded)) for name, coded in content["headers"]]
        return uncoded(content["key"]), pairs, data[4 + length :]
    key = attributes[KEY].encode() if KEY in attributes else uncoded(attributes.get(KEY_BASE64))
    if f"{HEADERS}0" in attributes:
        n_chunks = sum(name.startswith(HEADERS) for name in attributes)
        listed = json.loads("".join(attributes[f"{HEADERS}{i}"] for i in range(n_chunks)))
        headers = [
            (entry[0], attributes[entry[0]].encode() if len(entry) == 1 else uncoded(entry[1]))
            for entry in listed
        ]
        return key, headers, data
    names = sorted(name for name in attributes if not name.startswith(RESERVED))
    return key, [(name, attributes[name].encode()) for name in names], data


def decoded(value: bytes) -> str | None:
    """Return bytes as text, None where they are none."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def uncoded(value: str | None) -> bytes | None:
    """Return the bytes of a base64 text."""
    return None if value is None else binascii.a2b_base64(value)


def chunked(content: str) -> list[str]:
    """Cut a text of ASCII into attributes' lengths."""
    return [
        content[start : start + MAX_VALUE_BYTES]
        for start in range(0, len(content), MAX_VALUE_BYTES)
    ]
