"""A Kafka message as a Pub/Sub message and back, without loss; docs/bridge.md has the rules.

What Pub/Sub cannot hold as it is (binary, repeated or null headers, their order, long names) goes
into reserved attributes whose names begin with `darkroom.`; what is too much for those goes in
front of the data.
"""

import base64
import binascii
import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from google.pubsub_v1 import types

from worker.bridge.hops import HOPS, joined_hops, text
from worker.bridge.routes import Ordering

__all__ = ["KafkaMessage", "Origin", "from_pub_sub", "origin_of", "to_pub_sub"]

PubsubMessage = types.PubsubMessage.pb()
Headers = Sequence[tuple[str, bytes | None]]

RESERVED = "darkroom."
ORIGIN = "darkroom.origin"
KEY = "darkroom.key"
KEY_BASE64 = "darkroom.key.base64"
TIMESTAMP = "darkroom.timestamp"
TOMBSTONE = "darkroom.tombstone"
HEADERS = "darkroom.headers."
FRAME = "darkroom.frame"
MESSAGE_ID = "darkroom.message_id"
PUBLISH_TIME = "darkroom.publish_time"
ORDERING_KEY = "darkroom.ordering_key"
MARKS = frozenset({ORIGIN, HOPS, MESSAGE_ID, PUBLISH_TIME, ORDERING_KEY})
"""The headers that a mirrored message has in Kafka beside its own."""
NATIVE = (MESSAGE_ID, PUBLISH_TIME, ORDERING_KEY)

CLIENT_WORDS = frozenset({"topic", "data", "ordering_key", "timeout", "retry"})
"""Arguments of Google's `publish(**attributes)`, which no attribute can be called there."""
SENSELESS = (ValueError, LookupError, TypeError, RecursionError, struct.error)
MAX_OWN_ATTRIBUTES = 80
MAX_CHUNKS = 10
MAX_NAME_BYTES = 256
MAX_VALUE_BYTES = 1024
MAX_KEY_BASE64_BYTES = 768


class KafkaMessage(NamedTuple):  # made in a third of a dataclass's time
    """What a Kafka message is made of; the timestamp in milliseconds, None where it has none."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int | None


class Origin(NamedTuple):
    """Where a message was when the bridge took it."""

    place: str
    """The topic, with its cluster or project."""
    partition: int
    id: str
    """What a second copy of the message is known by."""


def to_pub_sub(message: KafkaMessage, origin: Origin, ordering: Ordering = "none") -> Any:
    """Return the Pub/Sub message of a Kafka message.

    A message that came from Pub/Sub gets its attributes and ordering key back.
    """
    marks, own = split(message.headers) if message.headers else ({}, [])
    attributes = {
        ORIGIN: text(marks.get(ORIGIN)) or origin.id,
        HOPS: joined_hops(text(marks.get(HOPS)), origin.place),
    }
    if marks:
        attributes |= {name: text(marks[name]) for name in NATIVE if marks.get(name) is not None}
    if message.timestamp is not None:
        attributes[TIMESTAMP] = str(message.timestamp)
    data = message.value
    if data is None:
        attributes[TOMBSTONE] = "1"
        data = b""
    forbidden = frozenset() if MESSAGE_ID in marks else CLIENT_WORDS
    if not (put_key(attributes, message.key) and put_headers(attributes, own, forbidden)):
        data = frame(attributes, message.key, own) + data
    if ordering == "none" and not marks:
        return PubsubMessage(data=data, attributes=attributes)
    native_key = attributes.get(ORDERING_KEY, "")
    return PubsubMessage(
        data=data,
        attributes=attributes,
        ordering_key=ordering_key(ordering, message.key, origin) or native_key,
    )


def split(headers: Headers) -> tuple[dict[str, bytes | None], Headers]:
    """Return the bridge's own marks among headers, and the headers without them."""
    marks = {name: value for name, value in headers if name in MARKS}
    return marks, [pair for pair in headers if pair[0] not in MARKS] if marks else headers


def from_pub_sub(message: Any, place: str) -> KafkaMessage:
    """Return the Kafka message of a Pub/Sub message that was read from `place`, its topic.

    A message that came from Kafka is what it was there; any other has its attributes as headers,
    its ordering key as the key and its publish time as the timestamp.
    """
    attributes = dict(message.attributes)
    hops = joined_hops(attributes.get(HOPS, ""), place)
    if ORIGIN not in attributes:
        return native(message, attributes, place, hops)
    try:
        timestamp = int(attributes[TIMESTAMP]) if TIMESTAMP in attributes else None
        key, headers, data = restored(attributes, message.data)
        check(timestamp, headers)
    except SENSELESS:  # someone else's reserved attributes
        return native(message, attributes, place, hops)
    marks = [(ORIGIN, attributes[ORIGIN].encode()), (HOPS, hops.encode())]
    marks += [(name, attributes[name].encode()) for name in NATIVE if name in attributes]
    return KafkaMessage(
        key=key,
        value=None if TOMBSTONE in attributes else data,
        headers=[*headers, *marks],
        timestamp=timestamp,
    )


def origin_of(message: Any) -> str:
    """Return what a second copy of a Pub/Sub message is known by."""
    return message.attributes.get(ORIGIN) or f"pubsub/{message.message_id}"


def native(message: Any, attributes: Mapping[str, str], place: str, hops: str) -> KafkaMessage:
    """Return the Kafka message of one that was born in Pub/Sub."""
    time = message.publish_time
    headers: list[tuple[str, bytes | None]] = [
        (name, attributes[name].encode()) for name in sorted(attributes)
    ]
    headers += [
        (ORIGIN, f"pubsub/{place}/{message.message_id}".encode()),
        (HOPS, hops.encode()),
        (MESSAGE_ID, message.message_id.encode()),
        (PUBLISH_TIME, f"{time.seconds}.{time.nanos:09d}".encode()),
    ]
    if message.ordering_key:
        headers.append((ORDERING_KEY, message.ordering_key.encode()))
    return KafkaMessage(
        key=message.ordering_key.encode() or None,
        value=message.data,
        headers=headers,
        timestamp=time.seconds * 1000 + time.nanos // 1_000_000,
    )


def check(timestamp: int | None, headers: Headers) -> None:
    """Raise ValueError where no Kafka message can have such a timestamp or headers."""
    if timestamp is not None and not 0 <= timestamp < 2**63:
        raise ValueError(timestamp)
    if not all(isinstance(name, str) for name, _ in headers):
        raise ValueError(headers)


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


def ordering_key(ordering: Ordering, key: bytes | None, origin: Origin) -> str:
    """Return the ordering key, at most 1,024 bytes; equal keys have equal ones."""
    if ordering == "partition":
        return f"{origin.place}/{origin.partition}"[-MAX_VALUE_BYTES:]
    if ordering == "none" or not key:
        return ""
    if len(key) <= MAX_VALUE_BYTES and (readable := decoded(key)) is not None:
        return readable
    return hashlib.sha256(key).hexdigest()


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
