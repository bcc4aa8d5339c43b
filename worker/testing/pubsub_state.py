"""What the fake Pub/Sub holds: topics, subscriptions, and messages on their way."""

import itertools
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.pubsub_v1 import types

__all__ = ["Delivery", "SubscriptionState", "TopicState", "refusal"]

ReceivedMessage = types.ReceivedMessage.pb()

MAX_MESSAGES = 1000
MAX_BYTES = 10_000_000
MAX_ATTRIBUTES = 100
MAX_NAME_BYTES = 256
MAX_VALUE_BYTES = 1024


@dataclass(slots=True)
class Delivery:
    """A message that was given to a subscriber and is not acknowledged yet."""

    message: Any
    deadline: float
    attempt: int


@dataclass
class SubscriptionState:
    """A subscription's messages: those that wait, and those that are out."""

    name: str
    topic: str
    ack_deadline_s: float
    is_ordered: bool
    waiting: deque[tuple[Any, int]] = field(default_factory=deque)
    out: dict[str, Delivery] = field(default_factory=dict)
    acked: int = 0
    _ids: "itertools.count[int]" = field(default_factory=itertools.count)

    def take(self, n_messages: int) -> list[Any]:
        """Hand out waiting messages, each with an ack id of its own."""
        deadline = time.monotonic() + self.ack_deadline_s
        received = []
        for _ in range(min(n_messages, len(self.waiting))):
            message, attempt = self.waiting.popleft()
            ack_id = f"{self.name}:{next(self._ids)}"
            self.out[ack_id] = Delivery(message, deadline, attempt + 1)
            received.append(ReceivedMessage(ack_id=ack_id, message=message))
        return received

    def acknowledge(self, ack_ids: Sequence[str]) -> None:
        """Forget messages; an id that is not out (any more) counts for nothing."""
        for ack_id in ack_ids:
            if self.out.pop(ack_id, None) is not None:
                self.acked += 1

    def extend(self, ack_ids: Sequence[str], seconds: float) -> None:
        """Set the time that is left for messages; none means that they come again at once."""
        if seconds <= 0:
            self.give_back([ack_id for ack_id in ack_ids if ack_id in self.out])
            return
        deadline = time.monotonic() + seconds
        for ack_id in ack_ids:
            if (delivery := self.out.get(ack_id)) is not None:
                delivery.deadline = deadline

    def expire(self) -> None:
        """Take back the messages whose time is over."""
        now = time.monotonic()
        self.give_back([ack_id for ack_id, out in self.out.items() if out.deadline < now])

    def give_back(self, ack_ids: Sequence[str]) -> None:
        """Put messages first in the queue again, with those that follow them by ordering key."""
        if not ack_ids:
            return
        again = set(ack_ids)
        if self.is_ordered:
            keys = {self.out[ack_id].message.ordering_key for ack_id in ack_ids} - {""}
            again |= {
                ack_id for ack_id, out in self.out.items() if out.message.ordering_key in keys
            }
        for ack_id in reversed([ack_id for ack_id in self.out if ack_id in again]):
            delivery = self.out.pop(ack_id)
            self.waiting.appendleft((delivery.message, delivery.attempt))


@dataclass
class TopicState:
    """A topic and the subscriptions that get its messages."""

    name: str
    subscriptions: list[SubscriptionState] = field(default_factory=list)
    published: int = 0


def refusal(messages: Sequence[Any]) -> str | None:
    """Say why Pub/Sub refuses a publish request, None when it takes it.

    The limits are those of https://cloud.google.com/pubsub/quotas#resource_limits.
    """
    if not 0 < len(messages) <= MAX_MESSAGES:
        return f"a request has 1 to {MAX_MESSAGES} messages, and this one {len(messages)}"
    if len({message.ordering_key for message in messages}) > 1:
        return (
            "In a single publish request, all messages must have no ordering key or they must "
            "all have the same ordering key."
        )
    size = 0
    for message in messages:
        size += message.ByteSize()
        if not message.data and not message.attributes:
            return "a message has data or attributes, and this one has neither"
        if message.attributes and (why := bad_attributes(message.attributes)):
            return why
    return (
        f"a request has at most {MAX_BYTES} bytes, and this one {size}"
        if size > MAX_BYTES
        else None
    )


def bad_attributes(attributes: Mapping[str, str]) -> str | None:
    """Say which limit attributes break."""
    if len(attributes) > MAX_ATTRIBUTES:
        return f"a message has at most {MAX_ATTRIBUTES} attributes, and this one {len(attributes)}"
    for name, value in attributes.items():
        if not name or len(name) > MAX_NAME_BYTES or len(name.encode()) > MAX_NAME_BYTES:
            return f"an attribute's name has 1 to {MAX_NAME_BYTES} bytes: {name!r:.300}"
        if len(value) * 4 > MAX_VALUE_BYTES and len(value.encode()) > MAX_VALUE_BYTES:
            return f"an attribute's value has at most {MAX_VALUE_BYTES} bytes: {name!r}"
        if name.startswith("goog"):
            return f"names that begin with goog are reserved: {name!r}"
    return None
