"""A Kafka message as a Pub/Sub message and back, without loss; docs/bridge.md has the rules.

Marks, attributes and headers whose names begin with `darkroom.`, say where a message has been.
"""

import hashlib
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from worker.bridge.messages import protobuf
from worker.bridge.messages.attributes import (
    CLIENT_WORDS,
    MAX_VALUE_BYTES,
    frame,
    put_headers,
    put_key,
    restore,
    text_or_none,
)
from worker.bridge.messages.hops import HOPS, add_hop, as_text
from worker.bridge.messages.protobuf import varint
from worker.bridge.messages.routes import Ordering
from worker.kafka.dead_letters import Headers

__all__ = [
    "KafkaMessage",
    "Origin",
    "PubSubMessage",
    "from_pub_sub",
    "origin_of",
    "to_pub_sub",
]

ORIGIN = "darkroom.origin"
TIMESTAMP = "darkroom.timestamp"
TOMBSTONE = "darkroom.tombstone"
MESSAGE_ID = "darkroom.message_id"
PUBLISH_TIME = "darkroom.publish_time"
ORDERING_KEY = "darkroom.ordering_key"
MARKS = frozenset({ORIGIN, HOPS, MESSAGE_ID, PUBLISH_TIME, ORDERING_KEY})
"""The headers that a mirrored message has in Kafka beside its own."""
NO_MARKS: Mapping[str, bytes | None] = {}
PUB_SUB_MARKS = (MESSAGE_ID, PUBLISH_TIME, ORDERING_KEY)

DATA, ORDERING_KEY_FIELD = b"\x0a", 5
"""A tag and the number of a field in a PubsubMessage."""

UNREADABLE = (ValueError, LookupError, TypeError, RecursionError, struct.error)
"""Errors from reserved attributes that another program has written."""


class KafkaMessage(NamedTuple):  # takes a third of a dataclass's time to make
    """The parts of a Kafka message."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int | None
    """Milliseconds since 1970; None for a message without one."""


class Origin(NamedTuple):
    """The place from which the bridge took a message."""

    place: str
    """The topic, with its cluster or project."""
    partition: int
    id: str
    """The id by which a second copy of the message is recognised."""


class PubSubMessage(NamedTuple):
    """A message for Pub/Sub."""

    wire: bytes
    """The serialised PubsubMessage; an object of protobuf takes three times as long to make."""
    ordering_key: str


def to_pub_sub(message: KafkaMessage, origin: Origin, ordering: Ordering = "none") -> PubSubMessage:
    """Return the Pub/Sub message of a Kafka message.

    A message that came from Pub/Sub gets its attributes and ordering key back.
    """
    key, data, headers, timestamp = message
    marks, own = split_marks(headers) if headers else (NO_MARKS, headers)
    if marks:
        attributes = {
            ORIGIN: as_text(marks.get(ORIGIN)) or origin.id,
            HOPS: add_hop(as_text(marks.get(HOPS)), origin.place),
        }
        attributes |= {
            name: as_text(marks[name]) for name in PUB_SUB_MARKS if marks.get(name) is not None
        }
    else:
        attributes = {ORIGIN: origin.id, HOPS: origin.place}
    if timestamp is not None:
        attributes[TIMESTAMP] = str(timestamp)
    if data is None:
        attributes[TOMBSTONE] = "1"
        data = b""
    forbidden = frozenset() if MESSAGE_ID in marks else CLIENT_WORDS
    if not (put_key(attributes, key) and put_headers(attributes, own, forbidden)):
        data = frame(attributes, key, own) + data
    wanted = "" if ordering == "none" else ordering_key(ordering, key, origin)
    if not wanted and marks:
        wanted = attributes.get(ORDERING_KEY, "")
    return PubSubMessage(serialise(data, attributes, wanted), wanted)


def serialise(data: bytes, attributes: Mapping[str, str], ordering_key: str) -> bytes:
    """Return a serialised PubsubMessage."""
    parts = [DATA, varint(len(data)), data]
    for name, value in attributes.items():
        coded = value.encode()
        parts += (attribute_head(name, len(coded)), coded)
    if ordering_key:
        parts.append(protobuf.field(ORDERING_KEY_FIELD, ordering_key.encode()))
    return b"".join(parts)


@lru_cache(maxsize=4096)
def attribute_head(name: str, n_bytes: int) -> bytes:
    """Return the bytes before the value of an attribute; `n_bytes` is the size of the value."""
    head = protobuf.field(1, name.encode()) + b"\x12" + varint(n_bytes)
    return b"\x12" + varint(len(head) + n_bytes) + head


def split_marks(headers: Headers) -> tuple[Mapping[str, bytes | None], Headers]:
    """Return the bridge's marks among headers, and the headers without them."""
    marks = {name: value for name, value in headers if name in MARKS}
    return marks, [pair for pair in headers if pair[0] not in MARKS] if marks else headers


def from_pub_sub(message: Any, place: str) -> KafkaMessage:
    """Return the Kafka message of a Pub/Sub message that was read from `place`, its topic.

    A message that came from Kafka gets back its key, value, headers and timestamp. Any other
    message has its attributes as headers, its ordering key as the key, and its publish time as the
    timestamp.
    """
    if not (found := message.attributes):
        return from_native(message, {}, place, place)
    attributes = dict(found.items())
    hops = add_hop(attributes.get(HOPS, ""), place)
    if ORIGIN not in attributes:
        return from_native(message, attributes, place, hops)
    try:
        timestamp = int(attributes[TIMESTAMP]) if TIMESTAMP in attributes else None
        key, headers, data = restore(attributes, message.data)
        check_parts(timestamp, headers)
    except UNREADABLE:
        return from_native(message, attributes, place, hops)
    marks = [(ORIGIN, attributes[ORIGIN].encode()), (HOPS, hops.encode())]
    marks += [(name, attributes[name].encode()) for name in PUB_SUB_MARKS if name in attributes]
    return KafkaMessage(
        key=key,
        value=None if TOMBSTONE in attributes else data,
        headers=[*headers, *marks],
        timestamp=timestamp,
    )


def origin_of(message: KafkaMessage) -> str:
    """Return the id by which a second copy of a message from Pub/Sub is recognised."""
    return as_text(dict(message.headers)[ORIGIN])  # the bridge's mark is the last of that name


def from_native(message: Any, attributes: Mapping[str, str], place: str, hops: str) -> KafkaMessage:
    """Return the Kafka message of a message that was first in Pub/Sub."""
    time, name, key = message.publish_time, message.message_id, message.ordering_key
    published, timestamp = publish_time(time.seconds, time.nanos)
    headers: list[tuple[str, bytes | None]] = [
        (ORIGIN, f"pubsub/{place}/{name}".encode()),
        hops_mark(hops),
        (MESSAGE_ID, name.encode()),
        published,
    ]
    if key:
        headers.append((ORDERING_KEY, key.encode()))
    if attributes:
        headers[:0] = [(name, attributes[name].encode()) for name in sorted(attributes)]
    return KafkaMessage(key.encode() if key else None, message.data, headers, timestamp)


@lru_cache(maxsize=1024)
def hops_mark(hops: str) -> tuple[str, bytes]:
    """Return the header that says where a message has been; many messages have the same one."""
    return (HOPS, hops.encode())


@lru_cache(maxsize=1024)
def publish_time(seconds: int, nanos: int) -> tuple[tuple[str, bytes], int]:
    """Return a time as a header and in milliseconds; messages of one request share it."""
    header = (PUBLISH_TIME, b"%d.%09d" % (seconds, nanos))
    return header, seconds * 1000 + nanos // 1_000_000


def check_parts(timestamp: int | None, headers: Headers) -> None:
    """Raise ValueError if no Kafka message can have this timestamp or these headers."""
    if timestamp is not None and not 0 <= timestamp < 2**63:
        raise ValueError(timestamp)
    if not all(isinstance(name, str) for name, _ in headers):
        raise ValueError(headers)


def ordering_key(ordering: Ordering, key: bytes | None, origin: Origin) -> str:
    """Return the ordering key, at most 1,024 bytes; equal keys have equal ordering keys."""
    if ordering == "partition":
        return f"{origin.place}/{origin.partition}"[-MAX_VALUE_BYTES:]
    if ordering == "none" or not key:
        return ""
    if len(key) <= MAX_VALUE_BYTES and (readable := text_or_none(key)) is not None:
        return readable
    return hashlib.sha256(key).hexdigest()
