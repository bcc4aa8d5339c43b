"""What a consumer group has committed while a deployment runs, and what it had answered by then."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from confluent_kafka import Consumer, KafkaException, TopicPartition

from worker.testing.clients.topic_reader import lone_consumer, partitions_of
from worker.testing.programs.waiting import wait_until

__all__ = ["OffsetSample", "OffsetWatch", "wait_until_answered"]

POLL_S = 0.25
ASK_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class OffsetSample:
    """One look at a group.

    Attributes:
        committed: offset by partition of the images topic.
        ends: how much there was afterwards, by topic and partition of the answers.
    """

    committed: Mapping[int, int]
    ends: Mapping[tuple[str, int], int]


@dataclass
class OffsetWatch:
    """Samples a group's committed offsets four times a second, from a thread of its own.

    Args:
        bootstrap: `host:port` of the deployment's Kafka.
        topic: its images topic; the group is `<topic>-worker`.
    """

    bootstrap: str
    topic: str
    samples: list[OffsetSample] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="offsets", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        consumer = lone_consumer(self.bootstrap, f"{self.topic}-worker")
        images = partitions_of(consumer, self.topic)
        answers = [
            partition
            for suffix in ("predictions", "dead-letters")
            for partition in partitions_of(consumer, f"{self.topic}-{suffix}")
        ]
        while not self._is_over.wait(POLL_S):
            try:
                self.samples.append(take_sample(consumer, images, answers))
            except KafkaException:
                continue  # the broker is away: the next sample tells
        consumer.close()


def take_sample(
    consumer: Consumer, images: list[TopicPartition], answers: list[TopicPartition]
) -> OffsetSample:
    """Look at what is committed first and at what is there afterwards."""
    committed = {
        partition.partition: partition.offset
        for partition in consumer.committed(images, timeout=ASK_TIMEOUT_S)
    }
    ends = {
        (partition.topic, partition.partition): consumer.get_watermark_offsets(
            partition, timeout=ASK_TIMEOUT_S
        )[1]
        for partition in answers
    }
    return OffsetSample(committed, ends)


def wait_until_answered(bootstrap: str, topic: str, n_images: int, timeout_s: float) -> bool:
    """Wait until a deployment's group has committed `n_images`; false when it has not in time."""
    consumer = lone_consumer(bootstrap, f"{topic}-worker")

    def is_through() -> bool:
        try:
            committed = consumer.committed(partitions_of(consumer, topic), timeout=ASK_TIMEOUT_S)
        except KafkaException:
            return False  # the broker is away
        return sum(max(0, partition.offset) for partition in committed) >= n_images

    try:
        return wait_until("answer to each image", is_through, timeout_s, poll_s=POLL_S)
    except TimeoutError:
        return False
    finally:
        consumer.close()
