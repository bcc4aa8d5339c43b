"""The Kafka topic that a route writes to.

Promise: a message that the broker refuses neither fails nor holds up its neighbours. Brokers refuse
whole batches, so each message of a refused batch is sent again alone; a message that is refused
even then becomes a dead letter with the broker's reason.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from worker.bridge.messages.dead_letters import MAX_MESSAGE_BYTES, DeadLetter, DeadLetters, KeptAs
from worker.bridge.messages.filter import RecentIds
from worker.bridge.messages.mapping import KafkaMessage, origin_of

__all__ = ["Delivery", "DeliveryOutcome", "KafkaSink", "SinkReport"]

BATCH_BYTES = 1_000_000  # librdkafka's own default
FLUSH_TIMEOUT_S = 1.0
REPORTED_IDS = 10_000
SETTINGS: Mapping[str, Any] = {
    "enable.idempotence": True,
    "acks": "all",
    "partitioner": "murmur2_random",
    # batches of hundreds: with 2 ms the broker had to work five times as much for a message
    "linger.ms": 10,
    "message.timeout.ms": 0,  # an outage is waited for, however long it is
    "message.max.bytes": MAX_MESSAGE_BYTES,
    "queue.buffering.max.messages": 40_000,
}
REFUSALS = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.POLICY_VIOLATION,
        KafkaError._INVALID_DIFFERENT_RECORD,  # noqa: SLF001 - a neighbour in the batch was refused
    }
)
"""The codes of a broker that will never take a batch as it is."""


class DeliveryOutcome(Enum):
    """What became of a message that Kafka has not confirmed."""

    DEAD_LETTERED = "refused, and stored among the dead letters"
    HELD_BACK = "refused, and too large for the dead letters as well"
    FAILED = "failed, to be tried again later"


@dataclass(slots=True)  # frozen ones take a microsecond more to make
class Delivery:
    """A message of a subscription on its way to Kafka."""

    ack_id: str
    message: KafkaMessage
    size: int
    message_id: str

    @property
    def id(self) -> str:
        """The id by which a second copy is recognised."""
        return origin_of(self.message)


@dataclass(slots=True)
class SinkReport:
    """What Kafka has reported since the last report."""

    confirmed: list[Delivery] = field(default_factory=list)
    unconfirmed: list[tuple[Delivery, DeliveryOutcome, str]] = field(default_factory=list)
    """Each other message that is done with, and the reason in words."""
    errors: list[KafkaError] = field(default_factory=list)
    """Errors of the connection as a whole."""


class KafkaSink:
    """A producer for one topic; used by one thread."""

    def __init__(
        self,
        config: Mapping[str, Any],
        topic: str,
        dead_letters: DeadLetters,
        *,
        source: str,
        max_message_bytes: int,
    ) -> None:
        """Connect to the topic's broker.

        Args:
            config: confluent-kafka's settings for the connection.
            topic: The topic's name.
            dead_letters: Takes the messages that the broker refuses; polled and closed here.
            source: The subscription's path, for dead letters.
            max_message_bytes: The most bytes that the topic takes in one batch.
        """
        self._topic = topic
        self._source = source
        self._dead_letters = dead_letters
        self._report = SinkReport()
        self._config = {
            **config,
            **SETTINGS,
            "batch.size": min(BATCH_BYTES, max_message_bytes),
            "error_cb": self._on_error,
        }
        self._producer = Producer(self._config)
        self._single_producer: Producer | None = None
        self._refused: deque[tuple[Delivery, KafkaError]] = deque()
        self._reported = RecentIds(REPORTED_IDS)

    @property
    def dead_letters_problem(self) -> str:
        """Why dead letters are not stored; empty when nothing is wrong."""
        return self._dead_letters.problem

    def send(self, deliveries: deque[Delivery]) -> None:
        """Take messages from the left for as long as there is room."""
        while deliveries and self._produce(self._producer, deliveries[0], self._on_report):
            deliveries.popleft()

    def poll(self, timeout_s: float) -> SinkReport:
        """Return what Kafka has reported; wait for the time-out when there is nothing."""
        self._producer.poll(timeout_s)
        for _ in range(len(self._refused)):
            self._send_alone(*self._refused.popleft())
        if self._single_producer is not None:
            self._single_producer.poll(0)
        self._dead_letters.poll()
        report, self._report = self._report, SinkReport()
        return report

    def close(self) -> None:
        """Give up the messages that are not confirmed, and close the connections."""
        self._dead_letters.close()
        for producer in (self._producer, self._single_producer):
            if producer is not None:
                producer.purge()
                producer.flush(FLUSH_TIMEOUT_S)
        self._single_producer = None
        del self._producer

    def _produce(
        self, producer: Producer, delivery: Delivery, on_report: Callable[..., None]
    ) -> bool:
        """Hand over a message; False when there is no room for it at the moment."""
        key, value, headers, timestamp = delivery.message
        try:
            producer.produce(
                self._topic,
                value=value,
                key=key,
                headers=headers,  # type: ignore[arg-type] # any sequence will do
                timestamp=timestamp or 0,
                on_delivery=partial(on_report, delivery),
            )
        except BufferError:
            return False
        except KafkaException as error:  # no report comes; the next poll deals with it
            self._refused.append((delivery, error.args[0]))
        return True

    def _on_report(
        self, delivery: Delivery, error: KafkaError | None, _message: Message | None
    ) -> None:
        if error is None:
            self._report.confirmed.append(delivery)
        elif error.code() in REFUSALS:
            self._refused.append((delivery, error))
        else:
            self._end(delivery, DeliveryOutcome.FAILED, error)

    def _send_alone(self, delivery: Delivery, error: KafkaError) -> None:
        """Send a message in a batch of its own, in case a neighbour caused the refusal."""
        if error.code() not in REFUSALS:
            self._end(delivery, DeliveryOutcome.FAILED, error)
            return
        if self._single_producer is None:
            self._single_producer = Producer(
                {**self._config, "batch.num.messages": 1, "linger.ms": 0}
            )
        if not self._produce(self._single_producer, delivery, self._on_report_alone):
            self._refused.append((delivery, error))

    def _on_report_alone(
        self, delivery: Delivery, error: KafkaError | None, message: Message | None
    ) -> None:
        if error is None or error.code() not in REFUSALS:
            self._on_report(delivery, error, message)
        elif delivery.id in self._reported:
            self._end(delivery, DeliveryOutcome.HELD_BACK, error)
        else:
            self._give_up(delivery, error)

    def _give_up(self, delivery: Delivery, error: KafkaError) -> None:
        is_too_large = error.code() == KafkaError.MSG_SIZE_TOO_LARGE
        letter = DeadLetter(
            delivery.message.key,
            delivery.message.value,
            delivery.message.headers,
            reason="too-large" if is_too_large else "refused",
            error=error.str(),
            source={
                "source-subscription": self._source,
                "source-message-id": delivery.message_id,
                "target-topic": self._topic,
            },
        )

        def on_stored(kept_as: KeptAs) -> None:
            if kept_as is KeptAs.WHOLE:
                self._end(delivery, DeliveryOutcome.DEAD_LETTERED, error)
            else:  # the value is nowhere but in the subscription
                self._reported.add(delivery.id)
                self._end(delivery, DeliveryOutcome.HELD_BACK, error)

        self._dead_letters.send(letter, on_stored)

    def _end(self, delivery: Delivery, outcome: DeliveryOutcome, error: KafkaError) -> None:
        self._report.unconfirmed.append((delivery, outcome, error.str()))

    def _on_error(self, error: KafkaError) -> None:
        self._report.errors.append(error)
