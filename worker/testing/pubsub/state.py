"""The topics and subscriptions of the fake Pub/Sub, with the messages that they hold.

Messages stay serialised: a benchmark of a client must not wait for the fake to make objects of
them.
"""

import itertools
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp
from google.pubsub_v1 import types

from worker.bridge.messages import protobuf

__all__ = ["Message", "SubscriptionState", "TopicState", "refusal"]

PubsubMessage = types.PubsubMessage.pb()
RECEIVED_MESSAGES, ACK_ID, MESSAGE = b"\x0a", b"\x0a", b"\x12"
"""Tags in a StreamingPullResponse, and in each of its ReceivedMessages."""
MESSAGE_ID, PUBLISH_TIME = 3, 4

MAX_MESSAGES = 1000
MAX_BYTES = 10_000_000
MAX_ATTRIBUTES = 100
MAX_NAME_BYTES = 256
MAX_VALUE_BYTES = 1024


class Message(NamedTuple):
    """A published message."""

    wire: bytes
    ordering_key: str


@dataclass
class SubscriptionState:
    """The messages of a subscription: those that wait, and those that subscribers have."""

    name: str
    topic: str
    ack_deadline_s: float
    is_ordered: bool
    waiting: deque[Message] = field(default_factory=deque)
    out: dict[str, tuple[Message, float]] = field(default_factory=dict)
    """Messages that a subscriber has and has not acknowledged, with their deadline, by ack id."""
    acked: int = 0
    _next_deadline: float = float("inf")
    """No deadline is earlier; to look at every deadline each time would slow down the clients."""
    _ids: "itertools.count[int]" = field(default_factory=itertools.count)

    def take(self, n_messages: int) -> bytes:
        """Deliver waiting messages, each with its own ack id, as a StreamingPullResponse."""
        deadline = time.monotonic() + self.ack_deadline_s
        self._next_deadline = min(self._next_deadline, deadline)
        parts: list[bytes] = []
        for _ in range(min(n_messages, len(self.waiting))):
            message = self.waiting.popleft()
            ack_id = f"{self.name}:{next(self._ids):012}"  # of one length: few different heads
            self.out[ack_id] = (message, deadline)
            wire, coded_id = message.wire, ack_id.encode()
            before, between = received(len(coded_id), len(wire))
            parts += (before, coded_id, between, wire)
        return b"".join(parts)

    def acknowledge(self, ack_ids: Sequence[str]) -> None:
        """Forget messages; an unknown ack id is ignored."""
        n_before = len(self.out)
        for ack_id in ack_ids:
            self.out.pop(ack_id, None)
        self.acked += n_before - len(self.out)

    def extend(self, ack_ids: Sequence[str], seconds: float) -> None:
        """Set the time left to acknowledge messages; after 0 seconds they are delivered again."""
        if seconds <= 0:
            self.give_back([ack_id for ack_id in ack_ids if ack_id in self.out])
            return
        deadline = time.monotonic() + seconds
        self._next_deadline = min(self._next_deadline, deadline)
        for ack_id in ack_ids:
            if (found := self.out.get(ack_id)) is not None:
                self.out[ack_id] = (found[0], deadline)

    def expire(self) -> None:
        """Take back the messages whose deadline has passed."""
        now = time.monotonic()
        if now <= self._next_deadline:
            return
        self.give_back([ack_id for ack_id, (_, deadline) in self.out.items() if deadline < now])
        self._next_deadline = min(
            (deadline for _, deadline in self.out.values()), default=float("inf")
        )

    def give_back(self, ack_ids: Sequence[str]) -> None:
        """Put messages back to the front, with those that follow them in their ordering key."""
        if not ack_ids:
            return
        again = set(ack_ids)
        if self.is_ordered:
            keys = {self.out[ack_id][0].ordering_key for ack_id in ack_ids} - {""}
            again |= {
                ack_id for ack_id, (message, _) in self.out.items() if message.ordering_key in keys
            }
        for ack_id in reversed([ack_id for ack_id in self.out if ack_id in again]):
            self.waiting.appendleft(self.out.pop(ack_id)[0])


@lru_cache(maxsize=4096)
def received(id_bytes: int, message_bytes: int) -> tuple[bytes, bytes]:
    """Return the bytes before and after the ack id of a message in a response."""
    before = ACK_ID + protobuf.varint(id_bytes)
    between = MESSAGE + protobuf.varint(message_bytes)
    length = len(before) + id_bytes + len(between) + message_bytes
    return RECEIVED_MESSAGES + protobuf.varint(length) + before, between


@dataclass
class TopicState:
    """A topic, and the subscriptions that get its messages."""

    name: str
    subscriptions: list[SubscriptionState] = field(default_factory=list)
    published: int = 0

    def take(self, wires: Sequence[bytes], ordering_key: str, ids: Iterator[int]) -> list[str]:
        """Give the messages of one request to each subscription, and return their ids."""
        seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
        published = Timestamp(seconds=seconds, nanos=nanos).SerializeToString()
        coded_time = protobuf.field(PUBLISH_TIME, published)
        message_ids = [str(next(ids)) for _ in wires]
        messages = [  # when a field is there twice, the last one counts
            Message(wire + protobuf.field(MESSAGE_ID, name.encode()) + coded_time, ordering_key)
            for wire, name in zip(wires, message_ids, strict=True)
        ]
        self.published += len(messages)
        for subscription in self.subscriptions:
            subscription.waiting.extend(messages)
        return message_ids


def refusal(messages: Sequence[Any], wires: Sequence[bytes]) -> str | None:
    """Return why Pub/Sub refuses to publish messages; None when it accepts them.

    The limits are those of https://cloud.google.com/pubsub/quotas#resource_limits.

    Args:
        messages: The messages of a request.
        wires: The same messages, serialised.
    """
    if not 0 < len(wires) <= MAX_MESSAGES:
        return f"a request has 1 to {MAX_MESSAGES} messages; this one has {len(wires)}"
    ordering_key = messages[0].ordering_key
    for message, wire in zip(messages, wires, strict=True):
        if message.ordering_key != ordering_key:
            return (
                "In a single publish request, all messages must have no ordering key or they must "
                "all have the same ordering key."
            )
        data, attributes = message.data, message.attributes
        if not attributes:
            if not data:
                return "a message needs data or attributes; this one has neither"
        elif (len(wire) - len(data) > MAX_NAME_BYTES or b"goog" in wire or "" in attributes) and (
            why := bad_attributes(attributes)
        ):  # fewer bytes exceed no limit
            return why
    size = sum(map(len, wires))
    return (
        f"a request has at most {MAX_BYTES} bytes; this one has {size}"
        if size > MAX_BYTES
        else None
    )


def bad_attributes(attributes: Mapping[str, str]) -> str | None:
    """Return which limit the attributes exceed; None when they exceed none."""
    if len(attributes) > MAX_ATTRIBUTES:
        return f"a message has at most {MAX_ATTRIBUTES} attributes; this one has {len(attributes)}"
    for name, value in attributes.items():
        if not name or len(name) > MAX_NAME_BYTES or len(name.encode()) > MAX_NAME_BYTES:
            return f"an attribute's name has 1 to {MAX_NAME_BYTES} bytes: {name!r:.300}"
        if len(value) * 4 > MAX_VALUE_BYTES and len(value.encode()) > MAX_VALUE_BYTES:
            return f"an attribute's value has at most {MAX_VALUE_BYTES} bytes: {name!r}"
        if name.startswith("goog"):
            return f"names that begin with goog are reserved: {name!r}"
    return None
