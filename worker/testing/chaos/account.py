"""Counts by id what went into a deployment's topics and what came out of them."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Self

from worker.testing.chaos.offset_watch import OffsetSample
from worker.testing.clients.topic_reader import Record, read_all

__all__ = ["Account", "Answer"]

MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """A prediction or a dead letter.

    Attributes:
        id: the image's.
        key: the image's.
        place: topic, partition and offset of the answer.
        source: partition and offset of the image.
        model: job of the model that predicted; empty for a dead letter.
        moment_ms: when the answer was made, or when Kafka got it where the topic says so.
        index: number of the predicted class; -1 for a dead letter.
        confidence: of the predicted class; 0 for a dead letter.
    """

    id: str
    key: bytes
    place: tuple[str, int, int]
    source: tuple[int, int]
    model: str
    moment_ms: int
    index: int = -1
    confidence: float = 0.0


@dataclass(frozen=True)
class Account:
    """All images and all answers of a deployment, read from the topics.

    Attributes:
        images: partition and offset of each image, by its id.
        answers: in each partition in their order.
    """

    images: dict[str, tuple[int, int]]
    answers: list[Answer]

    @classmethod
    def read(cls, bootstrap: str, topic: str) -> Self:
        """Read the topics of images, predictions and dead letters to their ends.

        Images are known by their `id` header, or else by topic, partition and offset.
        """
        images = {
            image_id(record): (record.partition, record.offset)
            for record in read_all(bootstrap, topic)
        }
        answers = [prediction(record) for record in read_all(bootstrap, f"{topic}-predictions")]
        answers += [dead_letter(record) for record in read_all(bootstrap, f"{topic}-dead-letters")]
        return cls(images, answers)

    @property
    def missing(self) -> list[str]:
        """The ids of images without any answer, in the order of their places."""
        answered = {answer.id for answer in self.answers}
        return [
            name
            for name, _ in sorted(self.images.items(), key=lambda image: image[1])
            if name not in answered
        ]

    @property
    def duplicates(self) -> int:
        """How many answers there are beyond the first of each image."""
        return len(self.answers) - len({answer.id for answer in self.answers})

    def answered_twice(self) -> list[str]:
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
        """Return the first answer to each image, by its id."""
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
            # an answer that a sample has seen stays in Kafka: each image is looked at once
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
                found.append(f"{len(ids)} {what}: {', '.join(ids[:MOST_NAMED])}")
        return found


def was_there(answer: Answer | None, sample: OffsetSample) -> bool:
    """Return whether an answer was in Kafka when the sample was taken."""
    if answer is None:
        return False
    topic, partition, offset = answer.place
    return offset < sample.ends[topic, partition]


def image_id(record: Record) -> str:
    """Return the id by which an image's answers are known."""
    default = f"{record.topic}-{record.partition}-{record.offset}"
    return record.headers.get("id", default.encode()).decode()


def prediction(record: Record) -> Answer:
    """Return what a prediction says."""
    content = record.json
    return Answer(
        id=content["id"],
        key=record.key or b"",
        place=(record.topic, record.partition, record.offset),
        source=(content["source"]["partition"], content["source"]["offset"]),
        model=content["model"]["job"],
        moment_ms=record.timestamp_ms,
        index=content["index"],
        confidence=content["confidence"],
    )


def dead_letter(record: Record) -> Answer:
    """Return what a dead letter says."""
    headers = record.headers
    partition, offset = int(headers["source-partition"]), int(headers["source-offset"])
    default = f"{headers['source-topic'].decode()}-{partition}-{offset}"
    return Answer(
        id=headers.get("id", default.encode()).decode(),
        key=record.key or b"",
        place=(record.topic, record.partition, record.offset),
        source=(partition, offset),
        model="",
        moment_ms=record.timestamp_ms,
    )


def clock(moment_ms: int) -> str:
    """Return a moment as the workers' logs write it."""
    return f"{time.strftime('%H:%M:%S', time.localtime(moment_ms // 1000))}.{moment_ms % 1000:03}"
