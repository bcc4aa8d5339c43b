"""One route from a Pub/Sub subscription to a Kafka topic.

Promise: a message is acknowledged only when Kafka has confirmed it, or when it has no business
there. Until then its lease is extended.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import grpc
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from google.pubsub_v1 import types

from worker.bridge.errors import BridgeError
from worker.bridge.leases import Leases
from worker.bridge.mapping import from_pub_sub, hops_of, origin_of
from worker.bridge.pub_sub import PubSub, explain
from worker.bridge.routes import Route
from worker.bridge.stats import Recent, Stats

__all__ = ["PubSubToKafka"]

logger = logging.getLogger(__name__)

StreamingPullRequest = types.StreamingPullRequest.pb()

LEASE_S = 60
HOLD_BACK_S = 600
"""The longest lease of Pub/Sub; for messages that Kafka does not take as it is set up."""
ACK_IDS = 1000
ACK_EVERY_S = 0.01
HEARTBEAT_S = 30.0
POLL_S = 0.01
FULL_S = 0.005
DRAIN_S = 8.0
STREAM_END_S = 1.0
FIRST_BACKOFF_S = 0.1
LAST_BACKOFF_S = 5.0
MAX_OUTSTANDING = 20_000
MAX_OUTSTANDING_BYTES = 64 * 1024 * 1024
MAX_MESSAGE_BYTES = 100_000_000  # what Kafka takes is Kafka's to say

USUAL_ENDS = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""How streams end, now and then."""
TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD})


class PubSubToKafka:
    """Two threads: one reads the stream into Kafka, the other hears what Kafka has confirmed."""

    def __init__(
        self,
        route: Route,
        pub_sub: PubSub,
        *,
        kafka_config: Mapping[str, Any],
        subscription: str,
        source_place: str,
        target_place: str,
    ) -> None:
        """Take both ends as they were found at the start; `subscription` is its path."""
        self.stats = Stats()
        self._route = route
        self._pub_sub = pub_sub
        self._subscription = subscription
        self._source_place = source_place
        self._target_place = target_place
        self._where = dict(route.where)
        self._producer = Producer(
            {
                **kafka_config,
                "enable.idempotence": True,
                "acks": "all",
                "partitioner": "murmur2_random",
                "linger.ms": 2,
                "message.timeout.ms": 0,  # an outage is waited for, however long it is
                "message.max.bytes": MAX_MESSAGE_BYTES,
                "queue.buffering.max.messages": MAX_OUTSTANDING * 2,
                "error_cb": self._on_kafka_error,
            }
        )
        self._leases = Leases()
        self._outstanding_bytes = 0
        self._acks: deque[str] = deque()
        self._acks_under_way = 0
        self._recent = Recent(route.deduplicate)
        self._failure: BaseException | None = None
        self._call: Any = None
        self._ending: threading.Timer | None = None
        self._stopping: threading.Event

    def run(self, stopping: threading.Event) -> None:
        """Mirror until `stopping` is set, then finish and acknowledge what is under way."""
        self._stopping = stopping
        is_read = threading.Event()
        confirming = threading.Thread(
            target=self._confirm, args=(is_read,), name=f"bridge acks {self._route.name}"
        )
        confirming.start()
        try:
            self._read_streams()
        finally:
            is_read.set()
            confirming.join()
            del self._producer  # its threads and connections end with it
            if self._ending is not None:
                self._ending.cancel()
                self._ending.join()
        if self._failure is not None:
            raise self._failure

    def interrupt(self) -> None:
        """Let a stream that waits for messages end."""
        call = self._call
        if call is not None:
            self._ending = threading.Timer(STREAM_END_S, call.cancel)
            self._ending.start()

    # reading

    def _read_streams(self) -> None:
        """Read one stream after another; Pub/Sub ends each after half an hour at the latest."""
        failures = 0
        while not self._stopping.is_set() and self._failure is None:
            before = time.monotonic()
            try:
                self._read_stream()
            except grpc.RpcError as error:
                if self._stopping.is_set():
                    return
                failures = 0 if time.monotonic() - before > LAST_BACKOFF_S else failures + 1
                self._note_outage(error, failures)
            wait_s = min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(failures, 10))
            self._stopping.wait(wait_s * random.uniform(0.5, 1.0))  # noqa: S311

    def _read_stream(self) -> None:
        is_over = threading.Event()
        self._call = call = self._pub_sub.streaming_pull(
            self._subscription, self._requests(is_over)
        )
        try:
            for response in call:
                self.stats.waiting_for = ""
                self._take(response.received_messages)
                if self._failure is not None:
                    return
        finally:
            is_over.set()
            call.cancel()

    def _requests(self, is_over: threading.Event) -> Iterator[Any]:
        """Open the stream and keep it open; ending this half-closes it."""
        yield StreamingPullRequest(
            subscription=self._subscription,
            stream_ack_deadline_seconds=LEASE_S,
            max_outstanding_messages=MAX_OUTSTANDING,
            max_outstanding_bytes=MAX_OUTSTANDING_BYTES,
        )
        heartbeat_at = time.monotonic() + HEARTBEAT_S
        while not is_over.wait(0.1) and not self._stopping.is_set():
            if time.monotonic() > heartbeat_at:
                heartbeat_at = time.monotonic() + HEARTBEAT_S
                yield StreamingPullRequest()

    def _take(self, received: Sequence[Any]) -> None:
        now = time.monotonic()
        for one in received:
            ack_id, message = one.ack_id, one.message
            name = origin_of(message)
            if self._is_skipped(message.attributes) or name in self._recent:
                self.stats.skipped += 1
                self._acks.append(ack_id)
                continue
            self._leases.begin(ack_id, now)
            self._produce(ack_id, name, from_pub_sub(message, self._source_place))

    def _is_skipped(self, attributes: Mapping[str, str]) -> bool:
        if not attributes:
            return bool(self._where)
        hops = attributes.get("darkroom.hops")
        if hops and self._target_place in hops_of(hops):
            return True
        return any(attributes.get(name) != value for name, value in self._where.items())

    def _produce(self, ack_id: str, name: str, mapped: Any) -> None:
        size = len(mapped.value or b"")
        self._outstanding_bytes += size
        report = partial(self._on_delivery, ack_id, name, size)
        while self._failure is None:
            if len(self._leases) > MAX_OUTSTANDING or (
                self._outstanding_bytes > MAX_OUTSTANDING_BYTES and len(self._leases) > 1
            ):
                time.sleep(FULL_S)
                continue
            try:
                self._producer.produce(
                    self._route.kafka_topic,
                    value=mapped.value,
                    key=mapped.key,
                    headers=mapped.headers,
                    timestamp=mapped.timestamp or 0,
                    on_delivery=report,
                )
            except BufferError:
                time.sleep(FULL_S)
            except KafkaException as error:
                report(error.args[0], None)
                return
            else:
                return

    # confirming

    def _confirm(self, is_read: threading.Event) -> None:
        """Poll the producer, acknowledge, extend leases; then finish what was read."""
        try:
            while not is_read.is_set():
                self._turn()
            deadline = time.monotonic() + DRAIN_S
            while self._has_work() and time.monotonic() < deadline:
                self._turn()
            self._give_back()
        except BaseException as error:
            self._failure = error
            if self._call is not None:
                self._call.cancel()

    def _has_work(self) -> bool:
        return bool(self._leases or self._acks or self._acks_under_way)

    def _turn(self) -> None:
        self._producer.poll(POLL_S)
        while self._acks:
            ids = [self._acks.popleft() for _ in range(min(ACK_IDS, len(self._acks)))]
            self._acks_under_way += 1
            self._pub_sub.acknowledge(self._subscription, ids, partial(self._on_acked, ids))
        self._pub_sub.extend(self._subscription, self._leases.due(), LEASE_S)
        self.stats.outstanding = len(self._leases)
        if self._failure is not None:
            raise self._failure

    def _on_delivery(
        self, ack_id: str, name: str, size: int, error: KafkaError | None, _message: Message | None
    ) -> None:
        self._leases.end(ack_id)
        self._outstanding_bytes -= size
        if error is None:
            self._acks.append(ack_id)
            self._recent.add(name)
            self.stats.progress(1)
        elif error.code() in TOO_LARGE:
            self.stats.held_back += 1
            self._pub_sub.extend(self._subscription, [ack_id], HOLD_BACK_S)
            logger.error(
                "route=%s id=%s bytes=%d held back: %s; raise max.message.bytes of the topic %s, "
                "and Pub/Sub delivers it again",
                *(self._route.name, name, size, error.str(), self._route.kafka_topic),
            )
        else:
            self.stats.failures += 1
            self.stats.waiting_for = error.str()
            self._pub_sub.extend(self._subscription, [ack_id], 10)
            if error.fatal():
                self._failure = BridgeError(f"route {self._route.name}: {error.str()}")

    def _on_acked(self, ids: list[str], call: Any) -> None:
        """Try a failed acknowledgement again; once the lease is over the message comes again."""
        if call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            self.stats.failures += 1
            time.sleep(0) if self._stopping.is_set() else time.sleep(FULL_S)
            self._acks.extend(ids)
        self._acks_under_way -= 1

    def _give_back(self) -> None:
        """Let Pub/Sub deliver to someone else what Kafka did not confirm in time."""
        for call in self._pub_sub.extend(self._subscription, self._leases.all(), 0):
            call.exception()  # waits; a lease that stays runs out by itself
        self._producer.purge()
        self._producer.flush(1.0)

    def _note_outage(self, error: Any, failures: int) -> None:
        self.stats.failures += 1
        if failures <= 1 and not self.stats.waiting_for and error.code() in USUAL_ENDS:
            return
        problem = explain(self._subscription, error)
        if not self.stats.waiting_for:
            logger.warning("route=%s waiting_for=pubsub reason=%s", self._route.name, problem)
        self.stats.waiting_for = str(problem)

    def _on_kafka_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._failure = BridgeError(f"route {self._route.name}: {error.str()}")
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - the public code
            logger.warning("route=%s waiting_for=kafka", self._route.name)
