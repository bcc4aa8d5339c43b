"""Messages to Kafka in batches, with one answer per batch: which messages the broker refused.

Built on confluent-kafka's idempotent producer, where a message costs about 2 microseconds;
through Faust's producer it costs about 30.
"""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import mode
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from worker.errors import BrokerError
from worker.kafka.broker import Broker

__all__ = ["Outgoing", "Publisher", "Refusals"]

LINGER_MS = 1
MAX_MESSAGE_BYTES = 1_000_000_000
"""The highest limit of the client, so that the broker decides which messages are too large."""
POLL_S = 0.1
FLUSH_S = 5.0

Refusals = Mapping[int, KafkaError]
"""Why the broker refused a message, by the message's index in the batch; empty when it took all."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be published."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = field(default=())


class Publisher(mode.Service):
    """Publishes batches in order; `publish` may be called from any thread while it runs."""

    def __init__(self, broker: Broker) -> None:
        """Take the broker, which has an address when this service starts."""
        super().__init__()
        self._broker = broker
        self._poller = threading.Thread(target=self._poll, name="publisher", daemon=True)
        self._is_closing = threading.Event()
        self._producer: Producer

    async def on_start(self) -> None:
        """Open the producer and the thread on which the broker's answers arrive."""
        self._producer = Producer(
            {
                "linger.ms": LINGER_MS,
                "message.max.bytes": MAX_MESSAGE_BYTES,
                "partitioner": "murmur2_random",  # as Java's and aiokafka's: equal keys meet
                "log_level": 3,
                **self._broker.connection.for_confluent(),
                "enable.idempotence": True,
            }
        )
        self._poller.start()

    async def on_stop(self) -> None:
        """Deliver the messages that are still queued, for at most five seconds."""
        await asyncio.to_thread(self._producer.flush, FLUSH_S)
        self._is_closing.set()
        await asyncio.to_thread(self._poller.join)
        self._producer.purge()
        await asyncio.to_thread(self._producer.close)

    def _poll(self) -> None:
        while not self._is_closing.is_set():
            self._producer.poll(POLL_S)

    def publish(self, messages: Sequence[Outgoing]) -> "Future[Refusals]":
        """Hand messages to the producer; the answer comes when the broker has reported on all.

        Waits for room while the producer's queue is full. The producer itself tries each message
        again for `message.timeout.ms` (five minutes) before it counts as refused.
        """
        reports = BatchReports(len(messages))
        for index, message in enumerate(messages):
            self._produce(message, partial(reports.add, index))
        return reports.answer

    async def send(self, message: Outgoing) -> None:
        """Publish one message and wait until the broker has confirmed it.

        Raises:
            BrokerError: the broker refused the message; the error says why.
        """
        for error in (await asyncio.wrap_future(self.publish([message]))).values():
            raise BrokerError(
                f"topic {message.topic!r}: the broker refused a message: {error.str()}"
            )

    def _produce(self, message: Outgoing, report: Any) -> None:
        while True:
            try:
                self._producer.produce(
                    message.topic,
                    value=message.value,
                    key=message.key,
                    headers=list(message.headers),
                    on_delivery=report,
                )
            except BufferError:
                self._is_closing.wait(POLL_S)  # the poller makes room
            except KafkaException as error:  # refused at once, such as one that is too large
                report(error.args[0], None)
                return
            else:
                return


class BatchReports:
    """Collects the broker's reports on the messages of one batch."""

    def __init__(self, n_messages: int) -> None:
        self.answer: Future[Refusals] = Future()
        self._outstanding = n_messages
        self._refusals: dict[int, KafkaError] = {}
        self._lock = threading.Lock()
        if not n_messages:
            self.answer.set_result({})

    def add(self, index: int, error: KafkaError | None, _message: Message | None) -> None:
        """Take the report on one message, from any thread."""
        with self._lock:
            self._outstanding -= 1
            if error is not None:
                self._refusals[index] = error
            is_complete = self._outstanding == 0
        if is_complete:
            self.answer.set_result(self._refusals)
