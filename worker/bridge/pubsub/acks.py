"""Acknowledgements on their way to Pub/Sub."""

import queue
import time
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import grpc

from worker.backoff import Backoff
from worker.bridge.flow.stats import Stats
from worker.bridge.pubsub.client import PubSub

__all__ = ["Acks"]

REQUEST_IDS = 1000
ACK_DELAY_S = 0.05
"""How long acknowledgements gather: a request costs more than a thousand ids in it."""
NOT_RETRIED = frozenset(
    {
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.CANCELLED,
    }
)
"""After these codes another attempt changes nothing; a message whose lease is over comes again."""


class Acks:
    """Sends acknowledgements, and again those whose request has failed; used by one thread."""

    def __init__(self, pub_sub: PubSub, subscription: str, stats: Stats, backoff: Backoff) -> None:
        """Begin without acknowledgements.

        Args:
            pub_sub: The channel to Pub/Sub.
            subscription: The subscription's path.
            stats: Counts the requests that fail.
            backoff: Delays between attempts during an outage.
        """
        self._pub_sub = pub_sub
        self._subscription = subscription
        self._stats = stats
        self._waiting: deque[str] = deque()
        self._failed: deque[Sequence[str]] = deque()
        self._retry_at = 0.0
        self._backoff = backoff
        self._answers: queue.SimpleQueue[tuple[Sequence[str], Any]] = queue.SimpleQueue()
        self._in_flight = 0
        self._send_at = 0.0

    @property
    def is_done(self) -> bool:
        """Whether every acknowledgement has been answered."""
        return not (self._waiting or self._failed or self._in_flight)

    def add(self, ack_ids: Iterable[str]) -> None:
        """Note that messages are to be acknowledged."""
        self._waiting.extend(ack_ids)

    def pump(self) -> None:
        """Take the answers that have come, and send the acknowledgements that are due."""
        while not self._answers.empty():
            self._settle(*self._answers.get())
        now = time.monotonic()
        while len(self._waiting) >= REQUEST_IDS or (self._waiting and now >= self._send_at):
            self._send_at = now + ACK_DELAY_S
            n_ids = min(REQUEST_IDS, len(self._waiting))
            self._send([self._waiting.popleft() for _ in range(n_ids)])
        while self._failed and now >= self._retry_at:
            self._send(self._failed.popleft())

    def _send(self, ids: Sequence[str]) -> None:
        self._in_flight += 1
        self._pub_sub.acknowledge(self._subscription, ids, partial(self._on_answer, ids))

    def _on_answer(self, ids: Sequence[str], call: Any) -> None:
        self._answers.put((ids, call))  # gRPC calls this in a thread of its own

    def _settle(self, ids: Sequence[str], call: Any) -> None:
        self._in_flight -= 1
        code = call.code()
        if code is grpc.StatusCode.OK:
            self._backoff.reset()
            return
        self._stats.failures += 1
        if code in NOT_RETRIED:
            return
        self._failed.append(ids)
        now = time.monotonic()
        if now >= self._retry_at:  # else this failure belongs to an outage that is waited for
            self._retry_at = now + self._backoff.next_delay_s()
