"""One route from a Pub/Sub subscription to a Kafka topic.

Promise: a message is acknowledged only when Kafka has confirmed it, when it is kept among the
dead letters, or when it has no business there. Until then its lease is extended.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError

from worker.bridge.acks import Acks
from worker.bridge.dead_letters import DeadLetters
from worker.bridge.errors import BridgeError
from worker.bridge.filter import Filter
from worker.bridge.kafka_sink import Delivery, Ending, KafkaSink
from worker.bridge.leases import LEASE_S, Leases
from worker.bridge.mapping import KafkaMessage, from_pub_sub, origin_of
from worker.bridge.pub_sub import PubSub
from worker.bridge.pull import Pull
from worker.bridge.routes import Route
from worker.bridge.stats import Recent, Stats

__all__ = ["PubSubToKafka"]

logger = logging.getLogger(__name__)

HOLD_BACK_S = 600
"""The longest lease of Pub/Sub; for messages that Kafka does not take as it is set up."""
TRY_AGAIN_S = 10
IDLE_S = 0.05
BUSY_S = 0.005
DRAIN_S = 8.0
MAX_OUTSTANDING = 20_000
MAX_OUTSTANDING_BYTES = 64 * 1024 * 1024


class PubSubToKafka:
    """The route's one thread: takes, sends, hears what was confirmed, acknowledges."""

    def __init__(
        self,
        route: Route,
        pub_sub: PubSub,
        dead_letters: DeadLetters,
        *,
        kafka_config: Mapping[str, Any],
        max_message_bytes: int,
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
        self._filter = Filter(route.where, target_place)
        self._sink = KafkaSink(
            kafka_config,
            route.kafka_topic,
            dead_letters,
            source=subscription,
            on_mirrored=self._on_mirrored,
            on_end=self._on_end,
            on_error=self._on_kafka_error,
            max_message_bytes=max_message_bytes,
        )
        self._pull = Pull(
            pub_sub,
            subscription,
            self.stats,
            lease_s=LEASE_S,
            max_messages=MAX_OUTSTANDING,
            max_bytes=MAX_OUTSTANDING_BYTES,
        )
        self._leases = Leases()
        self._acks = Acks(pub_sub, subscription, self.stats)
        self._unsent: deque[Delivery] = deque()
        self._size = 0
        self._later: list[str] = []
        self._recent = Recent(route.deduplicate)
        self._stop_at: float | None = None
        self._failure: BaseException | None = None

    def run(self, stopping: threading.Event) -> None:
        """Mirror until `stopping` is set, then finish and acknowledge what is under way."""
        self._pull.start()
        try:
            while not self._is_finished(stopping):
                is_busy = self._take()
                self._turn(0 if is_busy else BUSY_S)
        finally:
            self._leases.begin(self._pull.close())
            self._give_back()
            self._sink.close()

    def _is_finished(self, stopping: threading.Event) -> bool:
        """Return whether all is done that is to be done before the stop, for eight seconds."""
        if not stopping.is_set():
            return False
        now = time.monotonic()
        if self._stop_at is None:
            self._stop_at = now + DRAIN_S
            self._pull.interrupt()
        is_done = self._pull.is_over and not self._leases and self._acks.is_done
        return is_done or now > self._stop_at

    # reading

    def _take(self) -> bool:
        """Send on what has come; wait for it, and return true, when there is nothing else to do."""
        self._sink.send(self._unsent)
        if self._is_full():
            return False
        is_idle = not self._leases and self._acks.is_done
        received = self._pull.take(IDLE_S if is_idle else 0)
        is_choosy = bool(self._route.where) or self._route.deduplicate > 0
        taken: list[str] = []
        for one in received:
            ack_id, message = one.ack_id, one.message
            attributes = message.attributes
            mapped = from_pub_sub(message, self._source_place)
            if (is_choosy or attributes) and self._has_no_business(attributes, mapped):
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

    def _has_no_business(self, attributes: Mapping[str, str], mapped: KafkaMessage) -> bool:
        """Return whether a message is not for this route, or a second copy."""
        return self._filter.stops(attributes) or (
            self._route.deduplicate > 0 and origin_of(mapped) in self._recent
        )

    def _is_full(self) -> bool:
        return (
            bool(self._unsent)
            or len(self._leases) >= MAX_OUTSTANDING
            or self._size >= MAX_OUTSTANDING_BYTES
        )

    # confirming

    def _turn(self, timeout_s: float) -> None:
        """Hear what Kafka has confirmed, or wait so long for it; acknowledge, extend leases."""
        self._sink.poll(timeout_s)
        self._acks.pump()
        self._pub_sub.extend(self._subscription, self._leases.due(), LEASE_S)
        if self._later:
            self._pub_sub.extend(self._subscription, self._later, TRY_AGAIN_S)
            self._later = []
        self.stats.outstanding = len(self._leases)
        if self._failure is not None:
            raise self._failure

    def _on_mirrored(self, deliveries: Sequence[Delivery]) -> None:
        self._end(deliveries)
        self._acks.add([delivery.ack_id for delivery in deliveries])
        if self._route.deduplicate:
            for delivery in deliveries:
                self._recent.add(delivery.id)
        self.stats.progress(len(deliveries))

    def _on_end(self, delivery: Delivery, ending: Ending, error: str) -> None:
        self._end([delivery])
        if ending is Ending.DEAD_LETTERED:
            self._acks.add([delivery.ack_id])
            self.stats.dead_letters += 1
            self.stats.progress()
        elif ending is Ending.HELD_BACK:
            self._hold_back(delivery, error)
        else:
            self.stats.trouble(error)
            self._later.append(delivery.ack_id)

    def _end(self, deliveries: Sequence[Delivery]) -> None:
        self._leases.end([delivery.ack_id for delivery in deliveries])
        self._size -= sum(delivery.size for delivery in deliveries)

    def _hold_back(self, delivery: Delivery, error: str) -> None:
        self._pub_sub.extend(self._subscription, [delivery.ack_id], HOLD_BACK_S)
        self.stats.held_back += 1
        self.stats.progress()
        logger.error(
            "bridge route=%s id=%s bytes=%d held back: %s; raise max.message.bytes of the topic "
            "%s, and Pub/Sub delivers it again",
            *(self._route.name, delivery.id, delivery.size, error, self._route.kafka_topic),
        )

    def _give_back(self) -> None:
        """Let Pub/Sub deliver to someone else what Kafka did not confirm in time."""
        for call in self._pub_sub.extend(self._subscription, self._leases.all(), 0):
            call.exception()  # waits; a lease that stays runs out by itself

    def _on_kafka_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._failure = BridgeError(f"route {self._route.name}: {error.str()}")
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - the public code
            self.stats.trouble(f"Kafka: {error.str()}")
