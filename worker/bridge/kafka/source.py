"""The Kafka topic that a route reads from.

Promise: an offset is committed only when everything before it is done.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from worker.bridge.flow.errors import BridgeError
from worker.bridge.kafka.offsets import Offsets

__all__ = ["KafkaSource"]

logger = logging.getLogger(__name__)

READ_MESSAGES = 1000
PAUSE_AFTER_S = 1.0
SETTINGS: Mapping[str, Any] = {
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "partition.assignment.strategy": "cooperative-sticky",
    "queued.max.messages.kbytes": 32 * 1024,
    "fetch.queue.backoff.ms": 20,  # the full queue lasts 0.7 s at full speed; the default is 1 s
    "fetch.wait.max.ms": 20,
}


class KafkaSource:
    """A consumer of one topic with the offsets of its partitions; used by one thread."""

    def __init__(self, config: Mapping[str, Any], topic: str, group: str) -> None:
        """Prepare to read.

        Args:
            config: confluent-kafka's settings for the connection.
            topic: The topic's name.
            group: The consumer group.
        """
        self._topic = topic
        self._config = {**config, **SETTINGS, "group.id": group}
        self._consumer: Consumer
        self._full_since: float | None = None
        self._is_paused = False
        self.offsets = Offsets(topic)

    def open(self, *, on_revoke: Callable[[], None], on_outage: Callable[[str], None]) -> None:
        """Join the group.

        Args:
            on_revoke: Finishes the messages under way; called before partitions are given up.
            on_outage: Takes the reason when no broker can be reached.
        """

        def report(error: KafkaError) -> None:
            if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - the public code
                on_outage(f"Kafka: {error.str()}")

        def revoke(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            on_revoke()
            self.commit(is_last=True)
            self._lose(consumer, partitions)

        self._consumer = Consumer({**self._config, "error_cb": report})
        self._consumer.subscribe(
            [self._topic], on_assign=self._assign, on_revoke=revoke, on_lost=self._lose
        )

    def close(self) -> None:
        """Commit and leave the group."""
        self.commit(is_last=True)
        self._consumer.close()

    def read(self, limit: int, timeout_s: float) -> Mapping[int, Sequence[Message]]:
        """Return records by partition, at most `limit`; wait for the first one at most so long.

        Raises:
            BridgeError: Kafka reports an error of the topic that will not pass.
        """
        self._resume()
        first = self._consumer.poll(timeout_s)
        if first is None:
            return {}
        records = [first, *self._consumer.consume(min(READ_MESSAGES, limit) - 1, 0)]
        by_partition: dict[int, list[Message]] = {}
        for record in records:
            partition = record.partition()
            if (error := record.error()) is not None:
                self._check(error)
            elif partition is not None and partition in self.offsets:
                by_partition.setdefault(partition, []).append(record)
        return by_partition

    def wait(self, seconds: float) -> None:
        """Read nothing for a moment; a consumer that reads nothing for long is paused."""
        now = time.monotonic()
        self._full_since = self._full_since or now
        if not self._is_paused and now - self._full_since > PAUSE_AFTER_S:
            self._consumer.pause(self._consumer.assignment())
            self._is_paused = True
        if self._is_paused:
            self._consumer.poll(0)  # brings no message, and keeps the place in the group
        time.sleep(seconds)

    def commit(self, *, is_last: bool = False) -> None:
        """Commit up to the lowest offset that is not done; only the last commit waits for Kafka."""
        positions = self.offsets.to_commit(is_last=is_last)
        if not positions:
            return
        try:
            self._consumer.commit(offsets=positions, asynchronous=not is_last)  # type: ignore[call-overload]
        except KafkaException as error:
            logger.warning("bridge topic=%s commit failed: %s", self._topic, error)
        else:
            self.offsets.note_committed(positions)

    def lag(self) -> int:
        """Return how many messages are not done yet, as far as the consumer knows."""
        return self.offsets.lag(self._consumer)

    def _resume(self) -> None:
        self._full_since = None
        if self._is_paused:
            self._consumer.resume(self._consumer.assignment())
            self._is_paused = False

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.offsets.assign(one.partition for one in partitions)
        consumer.incremental_assign(partitions)
        self._is_paused = False

    def _lose(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.offsets.revoke(one.partition for one in partitions)
        consumer.incremental_unassign(partitions)

    def _check(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise BridgeError(f"topic {self._topic!r}: {error.str()}")
