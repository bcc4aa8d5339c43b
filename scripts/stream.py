"""A stream of images to a worker, and what comes out of it: predictions, events, dead letters."""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from numpy.typing import NDArray

POLL_S = 0.002

Json = dict[str, Any]
Images = NDArray[np.uint8]


class TooSlowError(Exception):
    """What was waited for did not come in time."""


@dataclass(frozen=True)
class Answers:
    """The predictions of a number of images, and how long they took.

    `seconds` counts from the first image's sending to the last prediction's arrival, and
    `latencies_ms` holds the same for each image.
    """

    predictions: dict[str, Json]
    latencies_ms: list[float]
    seconds: float


class Stream:
    """One client's view of a worker's topics.

    Predictions, events and dead letters are read from their beginnings, by no consumer group.
    """

    def __init__(self, bootstrap: str, topic: str = "images") -> None:
        self.topic = topic
        self.events: list[Json] = []
        self.predictions: dict[str, Json] = {}
        self.dead_letters: list[dict[str, str]] = []
        self._arrivals: dict[str, float] = {}
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1, "log_level": 0})
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"demo-{uuid.uuid4()}",  # the client wants one; it is never joined
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 10,
                "log_level": 0,
            }
        )
        self._consumer.assign(list(self._partitions()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.flush(5.0)
        self._consumer.close()

    def _partitions(self) -> Iterator[TopicPartition]:
        topics = self._consumer.list_topics(timeout=10.0).topics
        for suffix in ("predictions", "events", "dead-letters"):
            name = f"{self.topic}-{suffix}"
            for partition in topics[name].partitions:
                yield TopicPartition(name, partition, 0)

    def command(self, command: str, **fields: object) -> None:
        """Send a command to the control topic."""
        content = json.dumps({"command": command, **fields}).encode()
        self._producer.produce(f"{self.topic}-control", content)
        self._producer.flush(10.0)

    def send(self, value: bytes, content_type: str, image_id: str) -> None:
        """Send one image."""
        headers = {"content-type": content_type.encode(), "id": image_id.encode()}
        self._producer.produce(self.topic, value, headers=list(headers.items()))
        self._producer.poll(0)

    def send_all(self, images: Images, ids: Sequence[str]) -> None:
        """Send images (N, H, W), one a message, as fast as it goes."""
        for image, image_id in zip(images, ids, strict=True):
            self.send(npy(image), "application/x-npy", image_id)
        self._producer.flush(30.0)

    def read(self, timeout_s: float) -> None:
        """Take in what has arrived, waiting at most so long for something to arrive."""
        for message in self._consumer.consume(500, timeout_s):
            if message.error():
                continue  # the client tries again by itself, and what never comes is missed
            suffix = str(message.topic()).removeprefix(f"{self.topic}-")
            if suffix == "dead-letters":
                self.dead_letters.append(text_headers(message))
                continue
            content = json.loads(message.value() or b"{}")
            if suffix == "events":
                self.events.append(content)
            else:
                self.predictions.setdefault(content["id"], content)
                self._arrivals.setdefault(content["id"], time.perf_counter())

    def listen(self, timeout_s: float) -> Iterator[Json]:
        """Yield the events one by one as they come; a consumer breaks off when it has enough.

        Raises:
            TooSlowError: no event came for `timeout_s`.
        """
        position, deadline = 0, time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.read(0.05)
            while position < len(self.events):
                yield self.events[position]
                position += 1
                deadline = time.monotonic() + timeout_s
        raise TooSlowError(
            f"nothing happened for {timeout_s:g} s; the last events: {self.events[-3:]}"
        )

    def wait_for_predictions(self, ids: Sequence[str], timeout_s: float) -> dict[str, Json]:
        """Return the predictions of the ids that came in time; the caller counts them."""
        deadline, wanted = time.monotonic() + timeout_s, set(ids)
        while not wanted <= self.predictions.keys() and time.monotonic() < deadline:
            self.read(0.05)
        return {name: self.predictions[name] for name in ids if name in self.predictions}

    def wait_for_dead_letter(self, timeout_s: float) -> dict[str, str] | None:
        """Return the first dead letter's headers, or None when none comes in time."""
        deadline = time.monotonic() + timeout_s
        while not self.dead_letters and time.monotonic() < deadline:
            self.read(0.05)
        return self.dead_letters[0] if self.dead_letters else None

    def ask(
        self, images: Images, ids: Sequence[str], *, per_s: float | None, timeout_s: float
    ) -> Answers:
        """Send images at a steady rate or as fast as it goes, and read predictions meanwhile.

        Args:
            images: N grey images (N, H, W).
            ids: N ids.
            per_s: images a second; None is as fast as it goes.
            timeout_s: how long after the last image predictions are waited for.
        """
        payloads = [npy(image) for image in images]
        sent: dict[str, float] = {}
        begin = time.perf_counter()
        for index, (payload, image_id) in enumerate(zip(payloads, ids, strict=True)):
            while per_s and time.perf_counter() < begin + index / per_s:
                self.read(POLL_S)
            if index % 100 == 0:
                self.read(0)
            sent[image_id] = time.perf_counter()
            self.send(payload, "application/x-npy", image_id)
        self._producer.flush(30.0)
        deadline = time.monotonic() + timeout_s
        while not sent.keys() <= self.predictions.keys() and time.monotonic() < deadline:
            self.read(POLL_S)
        arrived = {name: self._arrivals[name] for name in ids if name in self._arrivals}
        return Answers(
            {name: self.predictions[name] for name in arrived},
            [(moment - sent[name]) * 1000 for name, moment in arrived.items()],
            max(arrived.values(), default=begin) - begin,
        )


def text_headers(message: Message) -> dict[str, str]:
    """Return a message's headers as text."""
    pairs = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    return {name: (value or b"").decode("utf-8", "replace") for name, value in pairs}


def npy(image: Images) -> bytes:
    """Return an image in numpy's file format."""
    buffer = io.BytesIO()
    np.save(buffer, image)
    return buffer.getvalue()
