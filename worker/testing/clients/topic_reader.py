"""Reads a topic from its beginning, as a test looks at what came out of a worker."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from worker.testing.clients.kafka_clients import Kafka, client_settings
from worker.testing.programs.waiting import wait_until

__all__ = [
    "Json",
    "Record",
    "TopicReader",
    "count_messages",
    "lone_consumer",
    "partitions_of",
    "read_all",
]

Json = dict[str, Any]

ASK_S = 10.0
AVAILABLE_S = 30.0
READ_ALL_S = 120.0
PASSING_ERRORS = (KafkaError._PARTITION_EOF, KafkaError._TRANSPORT)  # noqa: SLF001 - its names


@dataclass(frozen=True)
class Record:
    """One message as it was read."""

    key: bytes | None
    value: bytes
    headers: dict[str, bytes]
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    """When it was made, or when Kafka got it where the topic says so."""
    arrived: float
    """The moment of reading, on the clock of `time.perf_counter`."""

    @classmethod
    def of(cls, message: Message) -> Self:
        """Take what a test may ask for out of a client's message."""
        pairs = cast("list[tuple[str, bytes | None]]", message.headers() or [])
        return cls(
            key=message.key(),
            value=message.value() or b"",
            headers={name: value or b"" for name, value in pairs},
            topic=str(message.topic()),
            partition=int(message.partition() or 0),
            offset=int(message.offset() or 0),
            timestamp_ms=message.timestamp()[1],
            arrived=time.perf_counter(),
        )

    @cached_property
    def json(self) -> Json:
        """The value as a JSON object, parsed once."""
        return dict(json.loads(self.value))


class TopicReader:
    """Reads all partitions of a topic from their beginnings, without joining a group.

    Args:
        kafka: `host:port` of a broker, or the connection to a secured one.
        topic: it is waited for up to 30 s.
        fetch_wait_ms: how long the broker waits for a message before it answers with none.

    Raises:
        TimeoutError: there is no such topic.
    """

    def __init__(self, kafka: Kafka, topic: str, *, fetch_wait_ms: int = 20) -> None:
        self.topic = topic
        self.records: list[Record] = []
        self._consumer = lone_consumer(kafka, fetch_wait_ms=fetch_wait_ms)
        self._consumer.assign(
            wait_until(f"topic {topic}", lambda: partitions_of(self._consumer, topic), AVAILABLE_S)
        )

    def read(self, timeout_s: float) -> None:
        """Add what is there to `records`, waiting at most `timeout_s` for a first message."""
        for message in self._consumer.consume(1000, timeout_s):
            if error := message.error():
                if error.code() not in PASSING_ERRORS:
                    raise KafkaException(error)
                continue
            self.records.append(Record.of(message))

    def until(
        self, what: str, enough: Callable[[list[Record]], bool], timeout_s: float
    ) -> list[Record]:
        """Read until the records are enough, and return all of them.

        Raises:
            TimeoutError: they are not within `timeout_s`; says what came instead.
        """
        deadline = time.monotonic() + timeout_s
        while not enough(self.records):
            if time.monotonic() > deadline:
                last = [record.value[:300] for record in self.records[-5:]]
                raise TimeoutError(
                    f"{self.topic}: no {what} within {timeout_s:g} s;"
                    f" {len(self.records)} messages came, the last: {last}"
                )
            self.read(0.05)
        return self.records

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()


def lone_consumer(kafka: Kafka, group: str = "", *, fetch_wait_ms: int = 500) -> Consumer:
    """Return a consumer that joins no group; one with a `group` can ask what that committed."""
    return Consumer(
        {
            **client_settings(kafka),
            "group.id": group or f"reader-{uuid.uuid4()}",  # the client wants one
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": fetch_wait_ms,
        }
    )


def partitions_of(consumer: Consumer, topic: str) -> list[TopicPartition]:
    """Return a topic's partitions from their beginnings; none when there is no such topic."""
    found = consumer.list_topics(timeout=ASK_S).topics.get(topic)
    return [TopicPartition(topic, number, 0) for number in found.partitions] if found else []


def count_messages(kafka: Kafka, topic: str) -> int:
    """Return how many messages a topic holds; 0 when there is no such topic."""
    consumer = lone_consumer(kafka)
    try:
        ends = [
            consumer.get_watermark_offsets(partition, timeout=ASK_S)
            for partition in partitions_of(consumer, topic)
        ]
        return sum(high - low for low, high in ends)
    finally:
        consumer.close()


def read_all(kafka: Kafka, topic: str) -> Iterator[Record]:
    """Yield everything that a topic holds now.

    Raises:
        TimeoutError: its end was not reached within two minutes.
    """
    consumer = lone_consumer(kafka)
    try:
        partitions = partitions_of(consumer, topic)
        left = {}
        for partition in partitions:
            low, high = consumer.get_watermark_offsets(partition, timeout=ASK_S)
            left[partition.partition] = high - low
        consumer.assign(partitions)
        deadline = time.monotonic() + READ_ALL_S
        while sum(left.values()) > 0:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic}: cannot be read to its end; still to come: {left}")
            for message in consumer.consume(5000, 1.0):
                if message.error() is None:
                    record = Record.of(message)
                    left[record.partition] -= 1
                    yield record
    finally:
        consumer.close()
