"""Messages that the other side will never take, stored in Kafka with the reason in headers."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from worker.bridge.flow.pace import Pace
from worker.kafka.dead_letters import Headers, explained_headers, headers_without_value

__all__ = ["MAX_MESSAGE_BYTES", "DeadLetter", "DeadLetters", "KeptAs"]

FLUSH_TIMEOUT_S = 1.0
MAX_MESSAGE_BYTES = 100_000_000
"""Larger than any message, so that the broker decides which messages are too large."""


class KeptAs(Enum):
    """How much of a message its dead letter holds."""

    WHOLE = "the whole message"
    WITHOUT_VALUE = "the message without its value, for which the topic has no room"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message as it came, why the other side refuses it, and where it came from."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    reason: str
    """One word or two: `too-large`, `refused`."""
    error: str
    source: Mapping[str, str]
    """Headers that name the place where it came from, such as `source-topic`."""

    def explained(self) -> Headers:
        """Return the message's own headers, followed by those that explain the dead letter."""
        return explained_headers(
            self.headers, reason=self.reason, error=self.error, source=self.source
        )


@dataclass(slots=True)
class Sending:
    """A dead letter on its way."""

    letter: DeadLetter
    headers: Headers
    on_stored: Callable[[KeptAs], None]
    kept_as: KeptAs = KeptAs.WHOLE


class DeadLetters:
    """Sends dead letters until they are stored; used by one thread, which calls `poll`."""

    def __init__(self, config: Mapping[str, Any], topic: str, pace: Pace) -> None:
        """Begin without letters; the producer is opened with the first one.

        Args:
            config: confluent-kafka's settings for the connection.
            topic: The dead-letter topic.
            pace: The delays between attempts, and how long the topic may confirm nothing.
        """
        self._config = {
            **config,
            "enable.idempotence": True,
            "message.timeout.ms": 0,
            "message.max.bytes": MAX_MESSAGE_BYTES,
            "batch.num.messages": 1,  # a broker refuses whole batches, and each letter goes alone
        }
        self._topic = topic
        self._quiet_s = pace.quiet_s
        self._backoff = pace.backoff()
        self._producer: Producer | None = None
        self._failed: deque[Sending] = deque()
        self._retry_at = 0.0
        self._progressed_at = 0.0
        self.outstanding = 0
        self.outstanding_bytes = 0

    @property
    def problem(self) -> str:
        """What is wrong when letters wait and none is stored; empty when nothing is wrong."""
        quiet_s = time.monotonic() - self._progressed_at
        if not self.outstanding or quiet_s < self._quiet_s:
            return ""
        return f"{self.outstanding} dead letters: {self._topic} took none for {quiet_s:.0f} s"

    def send(self, letter: DeadLetter, on_stored: Callable[[KeptAs], None]) -> None:
        """Send a message untouched; `poll` calls `on_stored` once it is stored.

        When the topic has no room for the value, the letter goes without it; the value stays where
        the source headers say.
        """
        if not self.outstanding:
            self._progressed_at = time.monotonic()
        self.outstanding += 1
        self.outstanding_bytes += len(letter.value or b"")
        self._produce(Sending(letter, letter.explained(), on_stored))

    def poll(self) -> None:
        """Take the broker's answers, and send the letters again that it has not taken."""
        if self._producer is None or not self.outstanding:
            return
        self._producer.poll(0)
        if self._failed and time.monotonic() >= self._retry_at:
            failed, self._failed = self._failed, deque()
            for sending in failed:
                self._produce(sending)

    def close(self) -> None:
        """Give up the letters that are not stored; the routes wait for them before they stop."""
        if self._producer is not None:
            self._producer.flush(FLUSH_TIMEOUT_S)
            self._producer = None  # its threads and connections end with it

    def _produce(self, sending: Sending) -> None:
        if self._producer is None:  # most bridges never need it
            self._producer = Producer(self._config)
        letter = sending.letter
        try:
            self._producer.produce(
                self._topic,
                value=letter.value if sending.kept_as is KeptAs.WHOLE else None,
                key=letter.key,
                headers=sending.headers,  # type: ignore[arg-type] # null values, which the stub forgets
                on_delivery=partial(self._on_report, sending),
            )
        except BufferError:
            self._retry(sending)
        except KafkaException as error:
            self._on_report(sending, error.args[0], None)

    def _on_report(
        self, sending: Sending, error: KafkaError | None, _message: Message | None
    ) -> None:
        if error is None:
            self._backoff.reset()
            self._progressed_at = time.monotonic()
            self.outstanding -= 1
            self.outstanding_bytes -= len(sending.letter.value or b"")
            sending.on_stored(sending.kept_as)
        elif error.code() == KafkaError.MSG_SIZE_TOO_LARGE and sending.kept_as is KeptAs.WHOLE:
            sending.kept_as = KeptAs.WITHOUT_VALUE
            sending.headers = headers_without_value(sending.headers)
            self._produce(sending)
        else:  # the topic cannot be written to: it is better to wait than to lose
            self._retry(sending)

    def _retry(self, sending: Sending) -> None:
        self._failed.append(sending)
        now = time.monotonic()
        if now >= self._retry_at:  # else this failure belongs to an outage that is waited for
            self._retry_at = now + self._backoff.next_delay_s()
