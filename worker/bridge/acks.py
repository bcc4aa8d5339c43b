"""Acknowledgements on their way to Pub/Sub."""

import queue
import time
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import grpc

from worker.bridge.pub_sub import PubSub
from worker.bridge.stats import Stats

__all__ = ["Acks"]

ACK_IDS = 1000
GATHER_S = 0.05
"""While this short time passes they gather: a request costs more than a thousand ids in it."""
RETRY_S = 0.5
IN_VAIN = frozenset(
    {
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.CANCELLED,
    }
)
"""After these nothing changes by trying again; where a lease is over the message comes again."""


class Acks:
    """Sends what was added, and tries again what has failed; used by one thread."""

    def __init__(self, pub_sub: PubSub, subscription: str, stats: Stats) -> None:
        """Take the subscription's path."""
        self._pub_sub = pub_sub
        self._subscription = subscription
        self._stats = stats
        self._waiting: deque[str] = deque()
        self._again: deque[tuple[float, Sequence[str]]] = deque()
        self._answers: queue.SimpleQueue[tuple[Sequence[str], Any]] = queue.SimpleQueue()
        self._under_way = 0
        self._send_at = 0.0

    @property
    def is_done(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return not (self._waiting or self._again or self._under_way)

    def add(self, ack_ids: Iterable[str]) -> None:
        """Note that messages are to be acknowledged."""
        self._waiting.extend(ack_ids)

    def pump(self) -> None:
        """Send what waits, and hear what was answered."""
        while not self._answers.empty():
            self._settle(*self._answers.get())
        now = time.monotonic()
        while len(self._waiting) >= ACK_IDS or (self._waiting and now >= self._send_at):
            self._send_at = now + GATHER_S
            self._send([self._waiting.popleft() for _ in range(min(ACK_IDS, len(self._waiting)))])
        while self._again and self._again[0][0] <= now:
            self._send(self._again.popleft()[1])

    def _send(self, ids: Sequence[str]) -> None:
        self._under_way += 1
        self._pub_sub.acknowledge(self._subscription, ids, partial(self._answered, ids))

    def _answered(self, ids: Sequence[str], call: Any) -> None:
        self._answers.put((ids, call))  # in a thread of gRPC's

    def _settle(self, ids: Sequence[str], call: Any) -> None:
        self._under_way -= 1
        code = call.code()
        if code is grpc.StatusCode.OK:
            return
        self._stats.failures += 1
        if code not in IN_VAIN:
            self._again.append((time.monotonic() + RETRY_S, ids))
