"""The Kafka topic that a route writes to.

Promise: a message that the broker refuses neither fails nor holds up its neighbours. Brokers refuse
whole batches, so each message of a refused one is sent again alone, and what is refused
even then becomes a dead letter with the broker's reason.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from worker.bridge.dead_letters import MAX_MESSAGE_BYTES, DeadLetter, DeadLetters, Kept
from worker.bridge.mapping import KafkaMessage, origin_of
from worker.bridge.stats import Recent

__all__ = ["Delivery", "Ending", "KafkaSink"]

BATCH_BYTES = 1_000_000  # librdkafka's own
LINGER_MS = 10
"""Batches of hundreds: with 2 ms the broker had to work five times as much for a message."""
QUEUE_MESSAGES = 40_000
CLOSE_S = 1.0
REPORTED = 10_000

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
"""What a broker answers that will never take a batch as it is."""


class Ending(Enum):
    """How the way of a message that Kafka has not confirmed ended."""

    DEAD_LETTERED = "refused, and kept among the dead letters"
    HELD_BACK = "refused, and too large for the dead letters as well"
    FAILED = "to be tried again later"


@dataclass(slots=True)  # frozen ones take a microsecond more to make
class Delivery:
    """A message of a subscription on its way to Kafka."""

    ack_id: str
    message: KafkaMessage
    size: int
    message_id: str

    @property
    def id(self) -> str:
        """What a second copy of it is known by."""
        return origin_of(self.message)


class KafkaSink:
    """Used by one thread, which sends, polls, and hears in that how each message ended."""

    def __init__(
        self,
        config: Mapping[str, Any],
        topic: str,
        dead_letters: DeadLetters,
        *,
        source: str,
        on_mirrored: Callable[[Sequence[Delivery]], None],
        on_end: Callable[[Delivery, Ending, str], None],
        on_error: Callable[[KafkaError], None],
        max_message_bytes: int,
    ) -> None:
        """Connect to the topic's broker.

        Args:
            config: confluent-kafka's settings for the connection.
            topic: its name.
            dead_letters: where goes what the broker refuses; polled and closed by the sink.
            source: the subscription's path, for dead letters.
            on_mirrored: gets the messages that Kafka has confirmed, many at once.
            on_end: gets each other message with how it ended and why.
            on_error: gets what concerns the connection as a whole.
            max_message_bytes: what the topic takes in one batch.
        """
        self._topic = topic
        self._source = source
        self._dead_letters = dead_letters
        self._on_mirrored = on_mirrored
        self._on_end = on_end
        self._config = {
            **config,
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
            "linger.ms": LINGER_MS,
            "message.timeout.ms": 0,  # an outage is waited for, however long it is
            "message.max.bytes": MAX_MESSAGE_BYTES,
            "batch.size": min(BATCH_BYTES, max_message_bytes),
            "queue.buffering.max.messages": QUEUE_MESSAGES,
            "error_cb": on_error,
        }
        self._producer = Producer(self._config)
        self._alone: Producer | None = None
        self._mirrored: list[Delivery] = []
        self._refused: deque[tuple[Delivery, KafkaError]] = deque()
        self._reported = Recent(REPORTED)

    def send(self, deliveries: deque[Delivery]) -> None:
        """Take messages from the left for as long as there is room."""
        while deliveries and self._produce(self._producer, deliveries[0], self._report):
            deliveries.popleft()

    def poll(self, timeout_s: float) -> None:
        """Hear what the broker has answered, for so many seconds when there is nothing."""
        self._producer.poll(timeout_s)
        for _ in range(len(self._refused)):
            self._send_alone(*self._refused.popleft())
        if self._alone is not None:
            self._alone.poll(0)
        self._dead_letters.poll()
        if self._mirrored:
            mirrored, self._mirrored = self._mirrored, []
            self._on_mirrored(mirrored)

    def close(self) -> None:
        """Forget what is not confirmed, and let the connections end."""
        self._dead_letters.close()
        for producer in (self._producer, self._alone):
            if producer is not None:
                producer.purge()
                producer.flush(CLOSE_S)
        self._alone = None
        del self._producer

    def _produce(self, producer: Producer, delivery: Delivery, report: Callable[..., None]) -> bool:
        """Hand over a message; False when there is no room for it at the moment."""
        key, value, headers, timestamp = delivery.message
        try:
            producer.produce(
                self._topic,
                value=value,
                key=key,
                headers=headers,  # type: ignore[arg-type] # any sequence will do
                timestamp=timestamp or 0,
                on_delivery=partial(report, delivery),
            )
        except BufferError:
            return False
        except KafkaException as error:  # no callback comes; the next poll deals with it
            self._refused.append((delivery, error.args[0]))
        return True

    def _report(
        self, delivery: Delivery, error: KafkaError | None, _message: Message | None
    ) -> None:
        if error is None:
            self._mirrored.append(delivery)
        elif error.code() in REFUSALS:
            self._refused.append((delivery, error))
        else:
            self._on_end(delivery, Ending.FAILED, error.str())

    def _send_alone(self, delivery: Delivery, error: KafkaError) -> None:
        """Find out whether it was this message that was refused, or a neighbour."""
        if error.code() not in REFUSALS:
            self._on_end(delivery, Ending.FAILED, error.str())
            return
        if self._alone is None:
            self._alone = Producer({**self._config, "batch.num.messages": 1, "linger.ms": 0})
        if not self._produce(self._alone, delivery, self._report_alone):
            self._refused.append((delivery, error))

    def _report_alone(
        self, delivery: Delivery, error: KafkaError | None, message: Message | None
    ) -> None:
        if error is None or error.code() not in REFUSALS:
            self._report(delivery, error, message)
        elif delivery.id in self._reported:
            self._on_end(delivery, Ending.HELD_BACK, error.str())
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

        def done(kept: Kept) -> None:
            if kept is Kept.WHOLE:
                self._on_end(delivery, Ending.DEAD_LETTERED, error.str())
            else:  # its value is nowhere but in the subscription
                self._reported.add(delivery.id)
                self._on_end(delivery, Ending.HELD_BACK, error.str())

        self._dead_letters.send(letter, done)
