"""Messages on their way to Pub/Sub, in batches, with the order of each ordering key kept.

A lane holds the messages of one ordering key, or all messages that have none. An ordered lane has
one batch under way at a time, and nothing overtakes a batch that has to be tried again. A refused
batch is halved until the refused message is alone.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.backoff import Backoff
from worker.bridge.flow.pace import Bounds, Pace
from worker.kafka.offset_window import OffsetWindow

__all__ = ["Batch", "Item", "Lanes", "Span"]

UNORDERED_IN_FLIGHT = 8
MAX_REQUESTS = 200


@dataclass(slots=True, eq=False)  # a Counter of spans tells them apart by identity
class Span:
    """Consecutive messages of one partition; the window closes when each of them is done."""

    window: OffsetWindow
    last_offset: int
    left: int

    def finish(self, n_messages: int = 1) -> None:
        """Count messages as done."""
        self.left -= n_messages
        if not self.left:
            self.window.close(self.last_offset)


@dataclass(slots=True)
class Item:
    """A message, with the span to which it belongs."""

    message: bytes
    """A serialised PubsubMessage."""
    span: Span
    record: Any
    """The Kafka message, for a dead letter."""
    id: str
    """The id by which a second copy is recognised."""


@dataclass(slots=True)
class Batch:
    """The messages of one request."""

    key: str
    items: list[Item]
    backoff: Backoff | None = None
    """The back-off of a batch that has failed."""
    not_before: float = 0.0

    def halves(self) -> tuple["Batch", "Batch"]:
        """Return the batch as two."""
        middle = len(self.items) // 2
        return Batch(self.key, self.items[:middle]), Batch(self.key, self.items[middle:])


@dataclass(slots=True)
class Lane:
    """Messages that wait to be sent, and batches that have failed and are sent before them."""

    failed: deque[Batch] = field(default_factory=deque)
    items: deque[Item] = field(default_factory=deque)
    in_flight: int = 0


class Lanes:
    """All lanes of a route; used by one thread."""

    def __init__(self, send: Callable[[Batch], None], bounds: Bounds, pace: Pace) -> None:
        """Begin without messages.

        Args:
            send: Sends a batch; its caller reports the answer by `finish`, `retry` or `bisect`.
            bounds: The most that one request carries.
            pace: The delays after which a failed batch is sent again.
        """
        self._send = send
        self._bounds = bounds
        self._pace = pace
        self._lanes: dict[str, Lane] = {}
        self._ready: dict[str, None] = {}
        self._in_flight = 0
        self.outstanding = 0
        self.outstanding_bytes = 0

    def add(self, key: str, items: Sequence[Item]) -> None:
        """Put messages at the end of their lane."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane()
        lane.items.extend(items)
        self._ready[key] = None
        self.outstanding += len(items)
        self.outstanding_bytes += size_of(items)

    def pump(self) -> None:
        """Send the batches that may be sent now."""
        now = time.monotonic()
        for key in list(self._ready):
            if self._in_flight >= MAX_REQUESTS:
                return
            lane = self._lanes[key]
            limit = 1 if key else UNORDERED_IN_FLIGHT
            while lane.in_flight < limit and (batch := self._next_batch(key, lane, now)):
                lane.in_flight += 1
                self._in_flight += 1
                self._send(batch)
                self._ready[key] = self._ready.pop(key)  # the next turn begins with another lane
            if not lane.items and not lane.failed:
                del self._ready[key]

    def finish(self, batch: Batch) -> None:
        """Note that a batch is done."""
        self._land(batch)
        self.outstanding -= len(batch.items)
        self.outstanding_bytes -= size_of(batch.items)
        lane = self._lanes[batch.key]
        if not lane.items and not lane.failed and not lane.in_flight:
            del self._lanes[batch.key]
            self._ready.pop(batch.key, None)

    def retry(self, batch: Batch) -> None:
        """Send a failed batch again, after a delay and before the messages that follow it."""
        self._land(batch)
        if batch.backoff is None:
            batch.backoff = self._pace.backoff()
        batch.not_before = time.monotonic() + batch.backoff.next_delay_s()
        self._put_first(batch)

    def bisect(self, batch: Batch) -> None:
        """Send a refused batch again in two halves, in their order."""
        self._land(batch)
        left, right = batch.halves()
        self._put_first(right)
        self._put_first(left)

    def _land(self, batch: Batch) -> None:
        self._lanes[batch.key].in_flight -= 1
        self._in_flight -= 1

    def _put_first(self, batch: Batch) -> None:
        self._lanes[batch.key].failed.appendleft(batch)
        self._ready[batch.key] = None

    def _next_batch(self, key: str, lane: Lane, now: float) -> Batch | None:
        """Take the next batch out of a lane, None when there is none or it is too early for it."""
        if lane.failed and lane.failed[0].not_before <= now:
            return lane.failed.popleft()
        if (lane.failed and key) or not lane.items:
            return None
        items: list[Item] = []
        size = 0
        while lane.items and len(items) < self._bounds.request_messages:
            size += len(lane.items[0].message)
            if items and size > self._bounds.request_bytes:
                break
            items.append(lane.items.popleft())
        return Batch(key, items)


def size_of(items: Sequence[Item]) -> int:
    """Return the bytes of messages."""
    return sum(len(item.message) for item in items)
