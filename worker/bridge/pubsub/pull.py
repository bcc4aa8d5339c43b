"""The messages of a subscription, from one stream after another."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import grpc
from google.pubsub_v1 import types

from worker.bridge.flow.pace import Bounds, Pace
from worker.bridge.flow.stats import Stats
from worker.bridge.pubsub.client import PubSub, explain

__all__ = ["Pull"]

StreamingPullRequest = types.StreamingPullRequest.pb()

INBOX_RESPONSES = 2
"""Responses that wait to be taken; Pub/Sub holds back messages that the route has not taken."""
HEARTBEAT_S = 30.0
POLL_S = 0.1
STREAM_END_S = 1.0
GOOD_STREAM_S = 0.5
"""After a stream that lived this long the next one is opened soon: Pub/Sub cuts streams at will."""
USUAL_ENDS = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)
"""The codes with which healthy streams end now and then."""


class Pull:
    """A streaming pull that is opened again, with back-off, whenever it ends.

    It is read in a thread of its own, so that the route's thread never waits for Pub/Sub alone.
    """

    def __init__(
        self, pub_sub: PubSub, subscription: str, stats: Stats, *, pace: Pace, bounds: Bounds
    ) -> None:
        """Prepare to read.

        Args:
            pub_sub: The channel to Pub/Sub.
            subscription: The subscription's path.
            stats: Counts the streams that fail, and holds the reason.
            pace: The lease of each message, and the delays between streams.
            bounds: The messages and bytes that may be under way at the same time.
        """
        self._pub_sub = pub_sub
        self._subscription = subscription
        self._stats = stats
        self._backoff = pace.backoff()
        self._first_request = StreamingPullRequest(
            subscription=subscription,
            stream_ack_deadline_seconds=pace.lease_s,
            max_outstanding_messages=bounds.messages,
            max_outstanding_bytes=bounds.n_bytes,
        )
        self._call: Any = None
        self._is_ending = threading.Event()
        self._last_call = threading.Timer(STREAM_END_S, self._cancel)
        self._inbox: queue.Queue[Sequence[Any]] = queue.Queue(INBOX_RESPONSES)
        self._thread = threading.Thread(
            target=self._run, name=f"bridge pull {subscription}", daemon=True
        )
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def take(self, timeout_s: float) -> Sequence[Any]:
        """Return the messages of one response, none when nothing comes within the time-out.

        Raises:
            Exception: the error that has ended the reading.
        """
        if self._failure is not None:
            raise self._failure
        try:
            return self._inbox.get(block=timeout_s > 0, timeout=timeout_s)
        except queue.Empty:
            return ()

    @property
    def is_over(self) -> bool:
        """Whether the stream has ended and every message was taken."""
        return self._failure is None and not self._thread.is_alive() and self._inbox.empty()

    def interrupt(self) -> None:
        """Let the stream end soon; messages on their way still come."""
        if not self._is_ending.is_set():
            self._is_ending.set()
            self._last_call.start()

    def close(self) -> list[str]:
        """End the stream at once; return the ack ids of the messages that nobody has taken."""
        self.interrupt()
        self._last_call.cancel()
        self._last_call.join()
        left: list[str] = []
        while self._thread.is_alive() or not self._inbox.empty():
            self._cancel()
            with suppress(queue.Empty):
                left += [one.ack_id for one in self._inbox.get(timeout=POLL_S)]
        return left

    def _cancel(self) -> None:
        if self._call is not None:
            self._call.cancel()

    def _run(self) -> None:
        try:
            for received in self._responses():
                self._inbox.put(received)
        except BaseException as error:
            self._failure = error

    def _responses(self) -> Iterator[Sequence[Any]]:
        """Yield the messages of each response, from one stream after another."""
        while not self._is_ending.is_set():
            opened_at = time.monotonic()
            error: Any = None
            try:
                yield from self._stream()
            except grpc.RpcError as cut:
                error = cut
            if self._is_ending.is_set():
                return
            if error is None or time.monotonic() - opened_at > GOOD_STREAM_S:
                self._backoff.reset()
            if error is not None:
                self._note_end(error)
            self._is_ending.wait(self._backoff.next_delay_s())

    def _stream(self) -> Iterator[Sequence[Any]]:
        is_over = threading.Event()
        self._call = call = self._pub_sub.streaming_pull(
            self._subscription, self._requests(is_over)
        )
        try:
            for response in call:
                self._stats.record_answer()
                yield response.received_messages
        finally:
            is_over.set()
            call.cancel()

    def _requests(self, is_over: threading.Event) -> Iterator[Any]:
        """Open the stream and keep it open; ending this iterator half-closes the stream."""
        yield self._first_request
        now = time.monotonic()
        heartbeat_at, renew_at = now + HEARTBEAT_S, now + self._pub_sub.stream_s
        while not is_over.wait(POLL_S) and not self._is_ending.is_set() and now < renew_at:
            now = time.monotonic()
            if now > heartbeat_at:
                heartbeat_at = now + HEARTBEAT_S
                yield StreamingPullRequest()

    def _note_end(self, error: Any) -> None:
        """Count the end of a stream; it is a problem when it is unusual, or repeats at once."""
        is_rare = self._backoff.failures <= 1
        if is_rare and not self._stats.problem and error.code() in USUAL_ENDS:
            self._stats.failures += 1
            return
        self._stats.record_failure(str(explain(self._subscription, error)))
