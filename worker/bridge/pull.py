"""What a subscription delivers, from one stream after another."""

import queue
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import grpc
from google.pubsub_v1 import types

from worker.bridge.pub_sub import PubSub, explain
from worker.bridge.stats import Stats

__all__ = ["Pull"]

INBOX = 2
"""Responses that wait to be taken; Pub/Sub holds back what it was not asked for."""
StreamingPullRequest = types.StreamingPullRequest.pb()

HEARTBEAT_S = 30.0
LOOK_S = 0.1
STREAM_END_S = 1.0
FIRST_BACKOFF_S = 0.1
LAST_BACKOFF_S = 5.0
GOOD_STREAM_S = 0.5
"""After a stream that lived so long the next one is opened soon: Pub/Sub cuts them as it likes."""
USUAL_ENDS = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)
"""How streams end, now and then."""


class Pull:
    """A streaming pull that is opened again, with back-off, as often as it ends.

    A thread reads it, so that the route's own thread never waits for Pub/Sub alone.
    """

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
        self._is_ending = threading.Event()
        self._last_call = threading.Timer(STREAM_END_S, self._cancel)
        self._inbox: queue.Queue[Sequence[Any]] = queue.Queue(INBOX)
        self._thread = threading.Thread(
            target=self._run, name=f"bridge pull {subscription}", daemon=True
        )
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def take(self, timeout_s: float) -> Sequence[Any]:
        """Return the messages of one response, none when nothing comes for so long.

        Raises:
            Exception: what has ended the reading.
        """
        if self._failure is not None:
            raise self._failure
        try:
            return self._inbox.get(block=timeout_s > 0, timeout=timeout_s)
        except queue.Empty:
            return ()

    @property
    def is_over(self) -> bool:
        """Whether nothing is read any more, and everything was taken."""
        return self._failure is None and not self._thread.is_alive() and self._inbox.empty()

    def interrupt(self) -> None:
        """Let the stream end soon: what is on its way still comes."""
        if not self._is_ending.is_set():
            self._is_ending.set()
            self._last_call.start()

    def close(self) -> list[str]:
        """End the stream at once; returns the ack ids of what has come and was not taken."""
        self.interrupt()
        self._last_call.cancel()
        self._last_call.join()
        left: list[str] = []
        while self._thread.is_alive() or not self._inbox.empty():
            self._cancel()
            with suppress(queue.Empty):
                left += [one.ack_id for one in self._inbox.get(timeout=LOOK_S)]
        return left

    def _cancel(self) -> None:
        if self._call is not None:
            self._call.cancel()

    def _run(self) -> None:
        try:
            for received in self._batches():
                self._inbox.put(received)
        except BaseException as error:
            self._failure = error

    def _batches(self) -> Iterator[Sequence[Any]]:
        """Yield what comes, from one stream after another."""
        failures = 0
        while not self._is_ending.is_set():
            opened_at = time.monotonic()
            try:
                yield from self._stream()
            except grpc.RpcError as error:
                if self._is_ending.is_set():
                    return
                lived_s = time.monotonic() - opened_at
                failures = 0 if lived_s > GOOD_STREAM_S else failures + 1
                self._note_outage(error, failures)
            wait_s = min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(failures, 10))
            self._is_ending.wait(wait_s * random.uniform(0.5, 1.0))  # noqa: S311

    def _stream(self) -> Iterator[Sequence[Any]]:
        is_over = threading.Event()
        self._call = call = self._pub_sub.streaming_pull(
            self._subscription, self._requests(is_over)
        )
        try:
            for response in call:
                self._stats.is_well()
                yield response.received_messages
        finally:
            is_over.set()
            call.cancel()

    def _requests(self, is_over: threading.Event) -> Iterator[Any]:
        """Open the stream and keep it open; ending this half-closes it."""
        yield self._first_request
        now = time.monotonic()
        heartbeat_at, renew_at = now + HEARTBEAT_S, now + self._pub_sub.stream_s
        while not is_over.wait(LOOK_S) and not self._is_ending.is_set() and now < renew_at:
            now = time.monotonic()
            if now > heartbeat_at:
                heartbeat_at = now + HEARTBEAT_S
                yield StreamingPullRequest()

    def _note_outage(self, error: Any, failures: int) -> None:
        if failures <= 1 and not self._stats.problem and error.code() in USUAL_ENDS:
            self._stats.failures += 1
            return
        self._stats.trouble(str(explain(self._subscription, error)))
