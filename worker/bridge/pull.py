"""What a subscription delivers, from one stream after another."""

import logging
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
from google.pubsub_v1 import types

from worker.bridge.pub_sub import PubSub, explain
from worker.bridge.stats import Stats

__all__ = ["Pull"]

logger = logging.getLogger(__name__)

StreamingPullRequest = types.StreamingPullRequest.pb()

HEARTBEAT_S = 30.0
LOOK_S = 0.1
STREAM_END_S = 1.0
FIRST_BACKOFF_S = 0.1
LAST_BACKOFF_S = 5.0
USUAL_ENDS = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)
"""How streams end, now and then."""


class Pull:
    """A streaming pull that is opened again, with back-off, as often as it ends."""

    def __init__(
        self,
        pub_sub: PubSub,
        subscription: str,
        stats: Stats,
        *,
        lease_s: int,
        max_messages: int,
        max_bytes: int,
    ) -> None:
        """Take the subscription's path, the lease of each message, and how many may be out."""
        self._pub_sub = pub_sub
        self._subscription = subscription
        self._stats = stats
        self._first_request = StreamingPullRequest(
            subscription=subscription,
            stream_ack_deadline_seconds=lease_s,
            max_outstanding_messages=max_messages,
            max_outstanding_bytes=max_bytes,
        )
        self._call: Any = None
        self._ending: threading.Timer | None = None

    def batches(self, stopping: threading.Event) -> Iterator[Sequence[Any]]:
        """Yield what comes until `stopping` is set and the stream has ended."""
        failures = 0
        while not stopping.is_set():
            opened_at = time.monotonic()
            try:
                yield from self._stream(stopping)
            except grpc.RpcError as error:
                if stopping.is_set():
                    return
                lived_s = time.monotonic() - opened_at
                failures = 0 if lived_s > LAST_BACKOFF_S else failures + 1
                self._note_outage(error, failures)
            wait_s = min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(failures, 10))
            stopping.wait(wait_s * random.uniform(0.5, 1.0))  # noqa: S311

    def interrupt(self) -> None:
        """Let the stream end soon, once `stopping` is set: what is on its way still comes."""
        call = self._call
        if call is not None and self._ending is None:
            self._ending = threading.Timer(STREAM_END_S, call.cancel)
            self._ending.start()

    def close(self) -> None:
        """End the stream at once."""
        if self._call is not None:
            self._call.cancel()
        if self._ending is not None:
            self._ending.cancel()
            self._ending.join()

    def _stream(self, stopping: threading.Event) -> Iterator[Sequence[Any]]:
        is_over = threading.Event()
        self._call = call = self._pub_sub.streaming_pull(
            self._subscription, self._requests(stopping, is_over)
        )
        try:
            for response in call:
                self._stats.is_well()
                yield response.received_messages
        finally:
            is_over.set()
            call.cancel()

    def _requests(self, stopping: threading.Event, is_over: threading.Event) -> Iterator[Any]:
        """Open the stream and keep it open; ending this half-closes it."""
        yield self._first_request
        now = time.monotonic()
        heartbeat_at, renew_at = now + HEARTBEAT_S, now + self._pub_sub.stream_s
        while not is_over.wait(LOOK_S) and not stopping.is_set() and now < renew_at:
            now = time.monotonic()
            if now > heartbeat_at:
                heartbeat_at = now + HEARTBEAT_S
                yield StreamingPullRequest()

    def _note_outage(self, error: Any, failures: int) -> None:
        if failures <= 1 and not self._stats.waiting_for and error.code() in USUAL_ENDS:
            self._stats.failures += 1
            return
        problem = explain(self._subscription, error)
        if not self._stats.waiting_for:
            logger.warning("from=%s waiting_for=pubsub reason=%s", self._subscription, problem)
        self._stats.trouble(str(problem))
