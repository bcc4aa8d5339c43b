"""One route from a Pub/Sub subscription to a Kafka topic.

Promise: a message is acknowledged only when Kafka has confirmed it, when it is stored among the
dead letters, or when it is filtered out. Until then its lease is extended.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaError

from worker.bridge.flow.errors import BridgeError
from worker.bridge.flow.pace import Bounds, Pace
from worker.bridge.flow.stats import Stats
from worker.bridge.kafka.sink import Delivery, DeliveryOutcome, KafkaSink
from worker.bridge.messages.filter import Filter, RecentIds
from worker.bridge.messages.mapping import KafkaMessage, from_pub_sub, origin_of
from worker.bridge.messages.routes import Route
from worker.bridge.pubsub.acks import Acks
from worker.bridge.pubsub.client import PubSub
from worker.bridge.pubsub.leases import Leases
from worker.bridge.pubsub.pull import Pull

__all__ = ["PubSubToKafka"]

logger = logging.getLogger(__name__)

HOLD_BACK_S = 600
"""The longest lease of Pub/Sub; for messages that are too large for Kafka as it is set up."""
RETRY_S = 10
"""The lease of a message that has failed; Pub/Sub delivers it again when it is over."""


class PubSubToKafka:
    """The route's one thread: it takes messages, sends them, takes the reports, acknowledges."""

    def __init__(
        self,
        route: Route,
        sink: KafkaSink,
        pub_sub: PubSub,
        *,
        subscription: str,
        source_place: str,
        target_place: str,
        pace: Pace,
        bounds: Bounds,
    ) -> None:
        """Prepare to mirror.

        Args:
            route: What is mirrored.
            sink: The Kafka topic; closed by the route.
            pub_sub: The channel to Pub/Sub.
            subscription: The subscription's path.
            source_place: The name of the subscription's topic among all places.
            target_place: The Kafka topic's name among all clusters.
            pace: The times of the route.
            bounds: The most that the route holds.
        """
        self.stats = Stats(pace.quiet_s)
        self._route, self._pub_sub, self._sink = route, pub_sub, sink
        self._subscription = subscription
        self._source_place = source_place
        self._filter = Filter(route.where, target_place)
        self._recent = RecentIds(route.deduplicate)
        self._pace, self._bounds = pace, bounds
        self._pull = Pull(pub_sub, subscription, self.stats, pace=pace, bounds=bounds)
        self._leases = Leases(pace.lease_s)
        self._acks = Acks(pub_sub, subscription, self.stats, pace.backoff())
        self._unsent: deque[Delivery] = deque()
        self._size = 0
        self._failed_ids: list[str] = []
        self._stop_at: float | None = None

    def run(self, stopping: threading.Event) -> None:
        """Mirror until `stopping` is set, then finish and acknowledge the messages under way."""
        self._pull.start()
        try:
            while not self._is_finished(stopping):
                is_busy = self._take()
                self._turn(0 if is_busy else self._pace.busy_poll_s)
        finally:
            self._leases.begin(self._pull.close())
            self._give_back()
            self._sink.close()

    def _is_finished(self, stopping: threading.Event) -> bool:
        """Return whether the route has stopped: all is done, or the drain time is over."""
        if not stopping.is_set():
            return False
        now = time.monotonic()
        if self._stop_at is None:
            self._stop_at = now + self._pace.drain_s
            self._pull.interrupt()
        is_done = self._pull.is_over and not self._leases and self._acks.is_done
        return is_done or now > self._stop_at

    # reading

    def _take(self) -> bool:
        """Send the messages that have come; return whether some came or there was time to wait."""
        self._sink.send(self._unsent)
        if self._is_full():
            return False
        is_idle = not self._leases and self._acks.is_done
        received = self._pull.take(self._pace.idle_poll_s if is_idle else 0)
        needs_filter = bool(self._route.where) or self._route.deduplicate > 0
        taken: list[str] = []
        for one in received:
            ack_id, message = one.ack_id, one.message
            attributes = message.attributes
            mapped = from_pub_sub(message, self._source_place)
            if (needs_filter or attributes) and self._is_filtered(attributes, mapped):
                self._skip(ack_id)
                continue
            taken.append(ack_id)
            size = len(mapped.value or b"")
            self._size += size
            self._unsent.append(Delivery(ack_id, mapped, size, message.message_id))
        self._leases.begin(taken)
        self._sink.send(self._unsent)
        return is_idle or bool(received)

    def _skip(self, ack_id: str) -> None:
        self.stats.skipped += 1
        self._acks.add([ack_id])

    def _is_filtered(self, attributes: Mapping[str, str], mapped: KafkaMessage) -> bool:
        """Return whether a message is not for this route, or a second copy."""
        return self._filter.excludes(attributes) or (
            self._route.deduplicate > 0 and origin_of(mapped) in self._recent
        )

    def _is_full(self) -> bool:
        return (
            bool(self._unsent)
            or len(self._leases) >= self._bounds.messages
            or self._size >= self._bounds.n_bytes
        )

    # confirming

    def _turn(self, timeout_s: float) -> None:
        """Take Kafka's reports, waiting for them at most so long; acknowledge, extend leases."""
        report = self._sink.poll(timeout_s)
        if report.confirmed:
            self._confirm(report.confirmed)
        for delivery, outcome, error in report.unconfirmed:
            self._end_unconfirmed(delivery, outcome, error)
        for problem in report.errors:
            self._check(problem)
        self._acks.pump()
        self._pub_sub.extend(self._subscription, self._leases.renew(), self._pace.lease_s)
        if self._failed_ids:
            self._pub_sub.extend(self._subscription, self._failed_ids, RETRY_S)
            self._failed_ids = []
        self.stats.outstanding = len(self._leases)
        self.stats.dead_letters_problem = self._sink.dead_letters_problem

    def _confirm(self, deliveries: Sequence[Delivery]) -> None:
        self._end(deliveries)
        self._acks.add([delivery.ack_id for delivery in deliveries])
        if self._route.deduplicate:
            for delivery in deliveries:
                self._recent.add(delivery.id)
        self.stats.record_progress(len(deliveries))

    def _end_unconfirmed(self, delivery: Delivery, outcome: DeliveryOutcome, error: str) -> None:
        self._end([delivery])
        match outcome:
            case DeliveryOutcome.DEAD_LETTERED:
                self._acks.add([delivery.ack_id])
                self.stats.dead_letters += 1
                self.stats.record_progress()
            case DeliveryOutcome.HELD_BACK:
                self._hold_back(delivery, error)
            case DeliveryOutcome.FAILED:
                self.stats.record_failure(error)
                self._failed_ids.append(delivery.ack_id)

    def _end(self, deliveries: Sequence[Delivery]) -> None:
        self._leases.end([delivery.ack_id for delivery in deliveries])
        self._size -= sum(delivery.size for delivery in deliveries)

    def _hold_back(self, delivery: Delivery, error: str) -> None:
        self._pub_sub.extend(self._subscription, [delivery.ack_id], HOLD_BACK_S)
        self.stats.held_back += 1
        self.stats.record_progress()
        logger.error(
            "bridge route=%s id=%s bytes=%d held back: %s; raise max.message.bytes of the topic "
            "%s, and Pub/Sub delivers it again",
            *(self._route.name, delivery.id, delivery.size, error, self._route.kafka_topic),
        )

    def _give_back(self) -> None:
        """Let Pub/Sub deliver the messages again that Kafka did not confirm in time."""
        for call in self._pub_sub.extend(self._subscription, self._leases.all(), 0):
            call.exception()  # waits; a lease that stays ends by itself

    def _check(self, error: KafkaError) -> None:
        """Note an outage of Kafka; raise BridgeError for an error that will not pass."""
        if error.fatal():
            raise BridgeError(f"topic {self._route.kafka_topic!r}: {error.str()}")
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - the public code
            self.stats.record_failure(f"Kafka: {error.str()}")
