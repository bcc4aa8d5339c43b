"""One route from a Pub/Sub subscription to a Kafka topic.

Promise: a message is acknowledged only when Kafka has confirmed it, when it is kept among the
dead letters, or when it has no business there. Until then its lease is extended.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError

from worker.bridge.acks import Acks
from worker.bridge.dead_letters import DeadLetters
from worker.bridge.errors import BridgeError
from worker.bridge.filter import Filter
from worker.bridge.kafka_sink import Delivery, Ending, KafkaSink
from worker.bridge.leases import LEASE_S, Leases
from worker.bridge.mapping import from_pub_sub, origin_of
from worker.bridge.pub_sub import PubSub
from worker.bridge.pull import Pull
from worker.bridge.routes import Route
from worker.bridge.stats import Recent, Stats

__all__ = ["PubSubToKafka"]

logger = logging.getLogger(__name__)

HOLD_BACK_S = 600
"""The longest lease of Pub/Sub; for messages that Kafka does not take as it is set up."""
TRY_AGAIN_S = 10
POLL_S = 0.01
FULL_S = 0.005
DRAIN_S = 8.0
MAX_OUTSTANDING = 20_000
MAX_OUTSTANDING_BYTES = 64 * 1024 * 1024


class PubSubToKafka:
    """Two threads: one reads the stream into Kafka, the other hears what Kafka has confirmed."""

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
        self._later: list[str] = []
        self._recent = Recent(route.deduplicate)
        self._failure: BaseException | None = None

    def run(self, stopping: threading.Event) -> None:
        """Mirror until `stopping` is set, then finish and acknowledge what is under way."""
        is_read = threading.Event()
        confirming = threading.Thread(
            target=self._confirm, args=(is_read,), name=f"bridge acks {self._route.name}"
        )
        confirming.start()
        try:
            for received in self._pull.batches(stopping):
                self._take(received)
                if self._failure is not None:
                    break
        finally:
            is_read.set()
            confirming.join()
            self._pull.close()
        if self._failure is not None:
            raise self._failure

    def interrupt(self) -> None:
        """Let a stream that waits for messages end."""
        self._pull.interrupt()

    # reading

    def _take(self, received: Sequence[Any]) -> None:
        now = time.monotonic()
        for one in received:
            ack_id, message = one.ack_id, one.message
            name = origin_of(message)
            if self._filter.stops(message.attributes) or name in self._recent:
                self.stats.skipped += 1
                self._acks.add(ack_id)
                continue
            mapped = from_pub_sub(message, self._source_place)
            size = len(mapped.value or b"")
            self._leases.begin(ack_id, size, now)
            self._send(Delivery(ack_id, name, mapped, size, message.message_id))

    def _send(self, delivery: Delivery) -> None:
        """Hand a message to Kafka as soon as there is room for it."""
        while self._failure is None:
            if not self._is_full() and self._sink.send(delivery):
                return
            time.sleep(FULL_S)

    def _is_full(self) -> bool:
        n_messages = len(self._leases)
        return n_messages > MAX_OUTSTANDING or (
            n_messages > 1 and self._leases.size > MAX_OUTSTANDING_BYTES
        )

    # confirming

    def _confirm(self, is_read: threading.Event) -> None:
        """Poll the sink, acknowledge, extend leases; then finish what was read."""
        try:
            while not is_read.is_set():
                self._turn()
            deadline = time.monotonic() + DRAIN_S
            while (self._leases or not self._acks.is_done) and time.monotonic() < deadline:
                self._turn()
        except BaseException as error:
            self._failure = error
            self._pull.close()
        self._give_back()
        self._sink.close()

    def _turn(self) -> None:
        self._sink.poll(POLL_S)
        self._acks.pump()
        self._pub_sub.extend(self._subscription, self._leases.due(), LEASE_S)
        if self._later:
            self._pub_sub.extend(self._subscription, self._later, TRY_AGAIN_S)
            self._later = []
        self.stats.outstanding = len(self._leases)
        if self._failure is not None:
            raise self._failure

    def _on_end(self, delivery: Delivery, ending: Ending, error: str) -> None:
        self._leases.end(delivery.ack_id, delivery.size)
        if ending is Ending.MIRRORED:
            self._acks.add(delivery.ack_id)
            self._recent.add(delivery.id)
            self.stats.progress(1)
        elif ending is Ending.DEAD_LETTERED:
            self._acks.add(delivery.ack_id)
            self.stats.dead_letters += 1
            self.stats.progress()
        elif ending is Ending.HELD_BACK:
            self._hold_back(delivery, error)
        else:
            self.stats.trouble(error)
            self._later.append(delivery.ack_id)

    def _hold_back(self, delivery: Delivery, error: str) -> None:
        self._pub_sub.extend(self._subscription, [delivery.ack_id], HOLD_BACK_S)
        self.stats.held_back += 1
        self.stats.progress()
        logger.error(
            "route=%s id=%s bytes=%d held back: %s; raise max.message.bytes of the topic %s, "
            "and Pub/Sub delivers it again",
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
            logger.warning("route=%s waiting_for=kafka", self._route.name)
