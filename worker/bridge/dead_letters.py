"""Messages that Pub/Sub will never take, kept in Kafka with the reason in headers."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

__all__ = ["DeadLetters"]

MAX_ERROR_CHARACTERS = 1000
RETRY_S = 1.0


class DeadLetters:
    """Sends dead letters; used by one thread, which calls `poll` now and then."""

    def __init__(self, config: Mapping[str, Any], topic: str) -> None:
        self._config = {**config, "enable.idempotence": True, "message.timeout.ms": 0}
        self._topic = topic
        self._producer: Producer | None = None
        self.outstanding = 0

    def send(self, record: Message, reason: str, error: str, done: Callable[[], None]) -> None:
        """Send a message untouched, its own headers first; `done` is called once it is kept.

        One that has no room for the headers goes without its value, which stays where the headers
        say.
        """
        facts = {
            "reason": reason,
            "error": error[:MAX_ERROR_CHARACTERS],
            "source-topic": str(record.topic()),
            "source-partition": str(record.partition()),
            "source-offset": str(record.offset()),
            "time": f"{time.time():.3f}",
        }
        own: Any = record.headers() or []
        headers = [*own, *((name, text.encode()) for name, text in facts.items())]
        self.outstanding += 1
        self._produce(record, record.value(), headers, done)

    def poll(self) -> None:
        """Hear what the broker has confirmed."""
        if self._producer is not None and self.outstanding:
            self._producer.poll(0)

    def close(self) -> None:
        """Deliver what is still under way, for at most five seconds."""
        if self._producer is not None:
            self._producer.flush(5.0)
            self._producer = None  # its threads and connections end with it

    def _produce(
        self, record: Message, value: bytes | None, headers: Any, done: Callable[[], None]
    ) -> None:
        if self._producer is None:  # most bridges never need it
            self._producer = Producer(self._config)
        report = partial(self._report, record, value, headers, done)
        try:
            self._producer.produce(
                self._topic, value=value, key=record.key(), headers=headers, on_delivery=report
            )
        except KafkaException as error:
            report(error.args[0], None)

    def _report(
        self,
        record: Message,
        value: bytes | None,
        headers: Any,
        done: Callable[[], None],
        error: KafkaError | None,
        _message: Message | None,
    ) -> None:
        if error is None:
            self.outstanding -= 1
            done()
        elif value is not None:
            self._produce(record, None, [*headers, ("value-omitted", b"true")], done)
        else:
            time.sleep(RETRY_S)  # the topic is not writable: better wait than lose
            self._produce(record, None, headers, done)
