"""The checker: counts by id what went into a deployment's topics and what came out of them."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self, cast

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

POLL_S = 0.25

Place = tuple[str, int, int]
"""Topic, partition, offset."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A prediction or a dead letter."""

    id: str
    key: bytes
    place: Place
    source: tuple[int, int]
    """The image's partition and offset."""
    model: str
    """The job of the model that predicted; empty for a dead letter."""
    moment_ms: int
    """When it was made, or when Kafka got it where the topic says so."""
    index: int = -1
    confidence: float = 0.0


@dataclass(frozen=True)
class OffsetSample:
    """What the group had committed, and afterwards how much there was of each topic of answers."""

    committed: dict[int, int]
    ends: dict[tuple[str, int], int]


@dataclass(frozen=True)
class Account:
    """All images and all answers of a deployment, read from the topics."""

    images: dict[str, tuple[int, int]]
    """By id the partition and offset."""
    answers: list[Answer]
    """In each partition in its order."""

    @classmethod
    def read(cls, bootstrap: str, topic: str) -> Self:
        """Read the topics of images, predictions and dead letters to their ends."""
        images = {
            headers(message)["id"].decode(): (place(message)[1], place(message)[2])
            for message in read_all(bootstrap, topic)
        }
        answers = [predicted(message) for message in read_all(bootstrap, f"{topic}-predictions")]
        answers += [refused(message) for message in read_all(bootstrap, f"{topic}-dead-letters")]
        return cls(images, answers)

    @property
    def missing(self) -> list[str]:
        """The ids of images without any answer."""
        answered = {answer.id for answer in self.answers}
        return sorted((name for name in self.images if name not in answered), key=int)

    @property
    def duplicates(self) -> int:
        """How many answers are there beyond the first of each image."""
        return len(self.answers) - len({answer.id for answer in self.answers})

    def twice(self) -> list[str]:
        """Describe what was answered more than once: where and when, by partition and second."""
        first = self.first_answers()
        again = [answer for answer in self.answers if first[answer.id] is not answer]
        groups: dict[tuple[int, int], list[Answer]] = defaultdict(list)
        for answer in again:
            groups[answer.source[0], answer.moment_ms // 1000].append(answer)
        return [
            f"partition {partition}, offsets {members[0].source[1]} to {members[-1].source[1]}: "
            f"answered at {clock(first[members[0].id].moment_ms)} and {clock(members[0].moment_ms)}"
            for (partition, _), members in sorted(groups.items())
        ]

    def first_answers(self) -> dict[str, Answer]:
        """Return the first answer to each image."""
        first: dict[str, Answer] = {}
        for answer in self.answers:
            first.setdefault(answer.id, answer)
        return first

    def out_of_order(self) -> list[str]:
        """Describe each place where a key's images are first predicted in another order."""
        last: dict[bytes, Answer] = {}
        found = []
        for answer in self.first_answers().values():
            if not answer.model:
                continue
            before = last.get(answer.key)
            if before is not None and before.source > answer.source:
                found.append(f"{answer.key.decode()}: {answer.id} after {before.id}")
            last[answer.key] = answer
        return found

    def committed_too_early(self, samples: list[OffsetSample]) -> list[str]:
        """Describe each image that was committed when its answer was not in Kafka yet."""
        first = self.first_answers()
        sources: dict[int, list[tuple[int, str]]] = defaultdict(list)
        for name, (partition, offset) in self.images.items():
            sources[partition].append((offset, name))
        found = []
        for partition, in_partition in sources.items():
            in_partition.sort()
            # what a sample has seen as answered stays so: each image is looked at once
            looked_at = 0
            for sample in samples:
                committed = sample.committed.get(partition, 0)
                while looked_at < len(in_partition) and in_partition[looked_at][0] < committed:
                    offset, name = in_partition[looked_at]
                    if not was_there(first.get(name), sample):
                        found.append(f"{name} (partition {partition}, offset {offset})")
                    looked_at += 1
        return found

    def problems(self, samples: list[OffsetSample]) -> list[str]:
        """Describe everything that breaks a promise, duplicates apart."""
        found = []
        for what, ids in (
            ("images have no answer", self.missing),
            ("images were committed before their answer", self.committed_too_early(samples)),
            ("images of a key are out of order", self.out_of_order()),
        ):
            if ids:
                found.append(f"{len(ids)} {what}: {', '.join(ids[:5])}")
        return found


def was_there(answer: Answer | None, sample: OffsetSample) -> bool:
    """Return whether an answer was in Kafka when the sample was taken."""
    if answer is None:
        return False
    topic, partition, offset = answer.place
    return offset < sample.ends[topic, partition]


def predicted(message: Message) -> Answer:
    """Return what a prediction says."""
    content: dict[str, Any] = json.loads(message.value() or b"{}")
    source = content["source"]["partition"], content["source"]["offset"]
    key = message.key() or b""
    moment = message.timestamp()[1]
    job, index, confidence = content["model"]["job"], content["index"], content["confidence"]
    return Answer(content["id"], key, place(message), source, job, moment, index, confidence)


def refused(message: Message) -> Answer:
    """Return what a dead letter says."""
    known = headers(message)
    source = int(known["source-partition"]), int(known["source-offset"])
    moment = message.timestamp()[1]
    return Answer(known["id"].decode(), message.key() or b"", place(message), source, "", moment)


def clock(moment_ms: int) -> str:
    """Return a moment as the workers' logs write it."""
    return f"{time.strftime('%H:%M:%S', time.localtime(moment_ms // 1000))}.{moment_ms % 1000:03}"


def headers(message: Message) -> dict[str, bytes]:
    """Return a message's headers."""
    return dict(cast("list[tuple[str, bytes]]", message.headers() or []))


def place(message: Message) -> Place:
    """Return where a message is."""
    return str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)


def reader(bootstrap: str, group: str = "") -> Consumer:
    """Return a consumer that joins no group."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group or f"account-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )


def partitions_of(consumer: Consumer, topic: str) -> list[TopicPartition]:
    """Return a topic's partitions from their beginnings."""
    found = consumer.list_topics(topic, timeout=10.0).topics[topic].partitions
    return [TopicPartition(topic, number, 0) for number in found]


def read_all(bootstrap: str, topic: str) -> Iterator[Message]:
    """Yield everything that a topic holds now."""
    consumer = reader(bootstrap)
    try:
        partitions = partitions_of(consumer, topic)
        left = {}
        for partition in partitions:
            low, high = consumer.get_watermark_offsets(partition, timeout=10.0)
            left[partition.partition] = high - low
        consumer.assign(partitions)
        deadline = time.monotonic() + 120.0
        while sum(left.values()) > 0:
            assert time.monotonic() < deadline, f"{topic}: cannot be read to its end: {left}"
            for message in consumer.consume(5000, 1.0):
                if message.error() is None:
                    left[place(message)[1]] -= 1
                    yield message
    finally:
        consumer.close()


@dataclass
class OffsetWatch:
    """Samples a group's committed offsets four times a second, from a thread of its own."""

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
        consumer = reader(self.bootstrap, f"{self.topic}-worker")
        images = partitions_of(consumer, self.topic)
        answers = [
            partition
            for suffix in ("predictions", "dead-letters")
            for partition in partitions_of(consumer, f"{self.topic}-{suffix}")
        ]
        while not self._is_over.wait(POLL_S):
            try:
                self.samples.append(sample(consumer, images, answers))
            except KafkaException:
                continue  # the broker is away: the next sample tells
        consumer.close()


def sample(
    consumer: Consumer, images: list[TopicPartition], answers: list[TopicPartition]
) -> OffsetSample:
    """Look at what is committed first and at what is there afterwards."""
    committed = {
        partition.partition: partition.offset for partition in consumer.committed(images, timeout=5)
    }
    ends = {
        (partition.topic, partition.partition): consumer.get_watermark_offsets(
            partition, timeout=5
        )[1]
        for partition in answers
    }
    return OffsetSample(committed, ends)


def wait_until_answered(bootstrap: str, topic: str, n_images: int, timeout_s: float) -> bool:
    """Wait until there are at least as many answers as images and the group has committed all."""
    consumer = reader(bootstrap, f"{topic}-worker")
    deadline = time.monotonic() + timeout_s
    try:
        while time.monotonic() < deadline:
            try:
                committed = consumer.committed(partitions_of(consumer, topic), timeout=5)
                if sum(max(0, partition.offset) for partition in committed) >= n_images:
                    return True
            except KafkaException:
                pass  # the broker is away
            time.sleep(POLL_S)
    finally:
        consumer.close()
    return False
