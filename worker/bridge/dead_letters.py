"""Messages that the other side will never take, kept in Kafka with the reason in headers."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from worker.bridge.stats import QUIET_S
from worker.kafka.dead_letters import Headers, explained_headers, headers_without_value

__all__ = ["DeadLetter", "DeadLetters", "Kept"]

RETRY_S = 1.0
CLOSE_S = 1.0
MAX_MESSAGE_BYTES = 100_000_000  # what Kafka takes is Kafka's to say
TOO_LARGE = KafkaError.MSG_SIZE_TOO_LARGE


class Kept(Enum):
    """How much of a message its dead letter holds."""

    WHOLE = "all of it"
    WITHOUT_VALUE = "all but its value, for which the topic has no room"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message as it was, with why it is here and where it came from."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    reason: str
    """One word or two: `too-large`, `refused`."""
    error: str
    source: Mapping[str, str]
    """Headers that tell where it came from, such as `source-topic`."""

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
    done: Callable[[Kept], None]
    kept: Kept = Kept.WHOLE


class DeadLetters:
    """Sends dead letters; used by one thread, which calls `poll` now and then."""

    def __init__(self, config: Mapping[str, Any], topic: str) -> None:
        self._config = {
            **config,
            "enable.idempotence": True,
            "message.timeout.ms": 0,
            "message.max.bytes": MAX_MESSAGE_BYTES,
            "batch.num.messages": 1,  # the broker refuses batches, and each is to be alone
        }
        self._topic = topic
        self._producer: Producer | None = None
        self._again: deque[tuple[float, Sending]] = deque()
        self._progressed_at = 0.0
        self.outstanding = 0
        self.outstanding_bytes = 0

    @property
    def trouble(self) -> str:
        """What is wrong where letters wait and none is kept; empty when nothing is."""
        quiet_s = time.monotonic() - self._progressed_at
        if not self.outstanding or quiet_s < QUIET_S:
            return ""
        return f"{self.outstanding} dead letters: {self._topic} took none for {quiet_s:.0f} s"

    def send(self, letter: DeadLetter, done: Callable[[Kept], None]) -> None:
        """Send a message untouched; `done` is called once it is kept, by `poll`'s thread.

        Where the topic has no room for its value, that stays where the headers say.
        """
        if not self.outstanding:
            self._progressed_at = time.monotonic()
        self.outstanding += 1
        self.outstanding_bytes += len(letter.value or b"")
        self._produce(Sending(letter, letter.explained(), done))

    def poll(self) -> None:
        """Hear what the broker has confirmed, and try again what it has not taken."""
        if self._producer is None or not self.outstanding:
            return
        self._producer.poll(0)
        while self._again and self._again[0][0] <= time.monotonic():
            self._produce(self._again.popleft()[1])

    def close(self) -> None:
        """Forget what is not kept; the routes wait for that before they stop."""
        if self._producer is not None:
            self._producer.flush(CLOSE_S)
            self._producer = None  # its threads and connections end with it

    def _produce(self, sending: Sending) -> None:
        if self._producer is None:  # most bridges never need it
            self._producer = Producer(self._config)
        try:
            self._producer.produce(
                self._topic,
                value=sending.letter.value if sending.kept is Kept.WHOLE else None,
                key=sending.letter.key,
                headers=sending.headers,  # type: ignore[arg-type] # null values, which the stub forgets
                on_delivery=partial(self._report, sending),
            )
        except BufferError:
            self._try_again(sending)
        except KafkaException as error:
            self._report(sending, error.args[0], None)

    def _report(self, sending: Sending, error: KafkaError | None, _message: Message | None) -> None:
        if error is None:
            self._progressed_at = time.monotonic()
            self.outstanding -= 1
            self.outstanding_bytes -= len(sending.letter.value or b"")
            sending.done(sending.kept)
        elif error.code() == TOO_LARGE and sending.kept is Kept.WHOLE:
            sending.kept = Kept.WITHOUT_VALUE
            sending.headers = headers_without_value(sending.headers)
            self._produce(sending)
        else:  # the topic is not writable: better wait than lose
            self._try_again(sending)

    def _try_again(self, sending: Sending) -> None:
        self._again.append((time.monotonic() + RETRY_S, sending))
