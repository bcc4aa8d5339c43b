"""Messages on their way to Pub/Sub: in batches, each key's in order, a refused one found alone.

A lane is what has one order: an ordering key, or all that has none. An ordered lane has one batch
under way at a time, and nothing overtakes a batch that has to be tried again.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.kafka.offset_window import OffsetWindow

__all__ = ["Batch", "Item", "Lanes", "Span"]

MAX_MESSAGES = 1000
MAX_BYTES = 8_000_000
"""Of one request; Pub/Sub takes 10 MB, and a message is at most that."""
UNORDERED_IN_FLIGHT = 8
MAX_REQUESTS = 200
FIRST_BACKOFF_S = 0.1
LAST_BACKOFF_S = 5.0


@dataclass(slots=True, eq=False)  # counted by which it is
class Span:
    """Consecutive messages of one partition, done when each of them is."""

    window: OffsetWindow
    last_offset: int
    left: int

    def done(self, n_messages: int = 1) -> None:
        """Count messages as done."""
        self.left -= n_messages
        if not self.left:
            self.window.close(self.last_offset)


@dataclass(slots=True)
class Item:
    """A message with what is to be told when it is done."""

    message: bytes
    """As Pub/Sub's own protobuf has it."""
    span: Span
    record: Any
    """The Kafka message, for a dead letter."""
    id: str


@dataclass(slots=True)
class Batch:
    """Messages of one request."""

    key: str
    items: list[Item]
    failures: int = 0
    not_before: float = 0.0

    def halves(self) -> tuple["Batch", "Batch"]:
        """Return the batch as two."""
        middle = len(self.items) // 2
        return Batch(self.key, self.items[:middle]), Batch(self.key, self.items[middle:])


@dataclass(slots=True)
class Lane:
    """What waits to be sent, with the batches that are to be tried again first."""

    again: deque[Batch] = field(default_factory=deque)
    items: deque[Item] = field(default_factory=deque)
    in_flight: int = 0


class Lanes:
    """All lanes; used by one thread."""

    def __init__(self, send: Callable[[Batch], None]) -> None:
        """Take the function that sends a batch; its end is told to `finish` or `retry`."""
        self._send = send
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
        """Send what may be sent now."""
        now = time.monotonic()
        for key in list(self._ready):
            if self._in_flight >= MAX_REQUESTS:
                return
            lane = self._lanes[key]
            limit = 1 if key else UNORDERED_IN_FLIGHT
            while lane.in_flight < limit and (batch := next_batch(key, lane, now)) is not None:
                lane.in_flight += 1
                self._in_flight += 1
                self._send(batch)
                self._ready[key] = self._ready.pop(key)  # the next turn begins with another lane
            if not lane.items and not lane.again:
                del self._ready[key]

    def finish(self, batch: Batch) -> None:
        """Note that a batch is done with."""
        self._landed(batch)
        self.outstanding -= len(batch.items)
        self.outstanding_bytes -= size_of(batch.items)
        lane = self._lanes[batch.key]
        if not lane.items and not lane.again and not lane.in_flight:
            del self._lanes[batch.key]
            self._ready.pop(batch.key, None)

    def retry(self, batch: Batch) -> None:
        """Send a batch again, later and before what follows it."""
        self._landed(batch)
        wait_s = min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2**batch.failures)
        batch.failures = min(batch.failures + 1, 30)
        batch.not_before = time.monotonic() + wait_s * random.uniform(0.5, 1.0)  # noqa: S311
        self._again(batch)

    def bisect(self, batch: Batch) -> None:
        """Send a refused batch again in two halves, in their order."""
        self._landed(batch)
        left, right = batch.halves()
        self._again(right)
        self._again(left)

    def _landed(self, batch: Batch) -> None:
        self._lanes[batch.key].in_flight -= 1
        self._in_flight -= 1

    def _again(self, batch: Batch) -> None:
        self._lanes[batch.key].again.appendleft(batch)
        self._ready[batch.key] = None


def next_batch(key: str, lane: Lane, now: float) -> Batch | None:
    """Take the next batch out of a lane, None when there is none or it is too early for it."""
    if lane.again and lane.again[0].not_before <= now:
        return lane.again.popleft()
    if (lane.again and key) or not lane.items:
        return None
    items: list[Item] = []
    size = 0
    while lane.items and len(items) < MAX_MESSAGES:
        size += len(lane.items[0].message)
        if items and size > MAX_BYTES:
            break
        items.append(lane.items.popleft())
    return Batch(key, items)


def size_of(items: Sequence[Item]) -> int:
    """Return the bytes of messages."""
    return sum(len(item.message) for item in items)
