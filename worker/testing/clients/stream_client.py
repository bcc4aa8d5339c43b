"""What stands around a worker: who sends images and commands, who reads what comes out."""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from numpy.typing import NDArray

from worker.testing.clients.kafka_clients import Kafka, client_settings
from worker.testing.clients.topic_reader import Json, Record, TopicReader

__all__ = ["Answers", "StreamClient", "npy"]

CONFIRMED_S = 30.0
EVENT_S = 120.0
POLL_S = 0.002

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Answers:
    """The predictions of a number of images, and how long they took.

    Attributes:
        predictions: by id, of the images that were predicted in time.
        latencies_ms: from the sending of each image to the arrival of its prediction.
        seconds: from the sending of the first image to the arrival of the last prediction.
    """

    predictions: dict[str, Json]
    latencies_ms: list[float]
    seconds: float


class StreamClient:
    """A client of one deployment: sends to its topics, reads what comes out of them.

    It reads predictions, events and dead letters from their beginnings, without a consumer group.

    Args:
        kafka: `host:port` of the deployment's Kafka, or the connection to a secured one.
        topic: its images topic.
        fetch_wait_ms: the readers' part of a latency; a small one costs the broker more.
    """

    def __init__(self, kafka: Kafka, topic: str = "images", *, fetch_wait_ms: int = 20) -> None:
        self.topic = topic
        self._kafka = kafka
        self._fetch_wait_ms = fetch_wait_ms
        self._producer = Producer({**client_settings(kafka), "linger.ms": 1, "acks": "all"})
        self._readers: dict[str, TopicReader] = {}
        self._refused: list[KafkaError] = []
        self._predictions: dict[str, Record] = {}
        self._n_indexed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the broker."""
        for reader in self._readers.values():
            reader.close()
        self._producer.flush(5.0)
        self._producer.close()

    def reader(self, suffix: str) -> TopicReader:
        """Return the reader of `<topic>-<suffix>`, made at its first use."""
        if suffix not in self._readers:
            self._readers[suffix] = TopicReader(
                self._kafka, f"{self.topic}-{suffix}", fetch_wait_ms=self._fetch_wait_ms
            )
        return self._readers[suffix]

    # -- what goes in --------------------------------------------------------------------------

    def send(
        self,
        payload: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        key: bytes | None = None,
        topic: str | None = None,
    ) -> None:
        """Send bytes to the images topic, or to another one, without waiting for the broker."""
        self._producer.poll(0)
        self._producer.produce(
            topic or self.topic,
            payload,
            key=key,
            headers=[(name, value.encode()) for name, value in (headers or {}).items()],
            on_delivery=self._note_delivery,
        )

    def send_images(self, images: Pixels, ids: Sequence[str]) -> None:
        """Send images (N, H, W) or (N, H, W, C), one per message as npy; wait for the broker."""
        for image, name in zip(images, ids, strict=True):
            self.send(npy(image), headers={"content-type": "application/x-npy", "id": name})
        self.flush()

    def command(self, command: str, *, id: str | None = None, **fields: object) -> str:  # noqa: A002
        """Send a command, wait for the broker, and return the command's id."""
        name = id or f"{command}-{uuid.uuid4().hex[:8]}"
        content = {"command": command, "id": name, **fields}
        self.send(json.dumps(content).encode(), topic=f"{self.topic}-control")
        self.flush()
        return name

    def flush(self) -> None:
        """Wait until the broker has confirmed everything that was sent.

        Raises:
            TimeoutError: the broker did not within 30 s.
            KafkaException: the broker refused a message.
        """
        if left := self._producer.flush(CONFIRMED_S):
            raise TimeoutError(f"{left} messages not confirmed within {CONFIRMED_S:g} s")
        if self._refused:
            raise KafkaException(self._refused[0])

    def _note_delivery(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._refused.append(error)

    # -- what comes out ------------------------------------------------------------------------

    def predictions(self, ids: Iterable[str], timeout_s: float = EVENT_S) -> dict[str, Json]:
        """Wait for a prediction of each id, and return the first one of each.

        Raises:
            TimeoutError: some did not come in time.
        """
        wanted = list(dict.fromkeys(ids))
        self.reader("predictions").until(
            f"prediction of {len(wanted)} ids", lambda _: self._has_predictions(wanted), timeout_s
        )
        return {name: self._predictions[name].json for name in wanted}

    def event(self, event: str, timeout_s: float = EVENT_S, **fields: object) -> Json:
        """Wait for an event with these fields, and return the first such."""
        return self.events(event, 1, timeout_s, **fields)[0]

    def events(
        self, event: str, count: int, timeout_s: float = EVENT_S, **fields: object
    ) -> list[Json]:
        """Wait for `count` events with these fields, and return all that are there.

        Raises:
            TimeoutError: fewer came in time.
        """
        wanted = {"event": event, **fields}

        def matching(records: list[Record]) -> list[Json]:
            return [record.json for record in records if wanted.items() <= record.json.items()]

        what = f"{count} events like {wanted}"
        records = self.reader("events").until(
            what, lambda records: len(matching(records)) >= count, timeout_s
        )
        return matching(records)

    def follow_events(self, timeout_s: float = EVENT_S) -> Iterator[Json]:
        """Yield the events one by one as they come, from the first one on.

        Raises:
            TimeoutError: no event came for `timeout_s`.
        """
        reader, n_seen = self.reader("events"), 0

        def has_another(records: list[Record]) -> bool:
            return len(records) > n_seen

        while True:
            reader.until("further event", has_another, timeout_s)
            yield reader.records[n_seen].json
            n_seen += 1

    def dead_letter(self, value: bytes, timeout_s: float = 30.0) -> Record:
        """Wait for the dead letter with exactly these bytes, and return it.

        Raises:
            TimeoutError: it did not come in time.
        """
        what = f"dead letter {value[:60]!r}"
        records = self.reader("dead-letters").until(
            what, lambda records: any(record.value == value for record in records), timeout_s
        )
        return next(record for record in records if record.value == value)

    def ask(
        self, images: Pixels, ids: Sequence[str], *, per_s: float | None, timeout_s: float
    ) -> Answers:
        """Send images at a steady rate or as fast as possible, and read predictions meanwhile.

        Args:
            images: N grey images (N, H, W).
            ids: N ids.
            per_s: images per second; None is as fast as possible.
            timeout_s: how long after the last image predictions are waited for.
        """
        reader, payloads = self.reader("predictions"), [npy(image) for image in images]
        sent: dict[str, float] = {}
        begin = time.perf_counter()
        for index, (payload, name) in enumerate(zip(payloads, ids, strict=True)):
            while per_s and time.perf_counter() < begin + index / per_s:
                reader.read(POLL_S)
            if index % 100 == 0:
                reader.read(0)
            sent[name] = time.perf_counter()
            self.send(payload, headers={"content-type": "application/x-npy", "id": name})
        self.flush()
        deadline = time.monotonic() + timeout_s
        while not self._has_predictions(sent) and time.monotonic() < deadline:
            reader.read(POLL_S)
        found = {name: self._predictions[name] for name in ids if name in self._predictions}
        return Answers(
            {name: record.json for name, record in found.items()},
            [(record.arrived - sent[name]) * 1000 for name, record in found.items()],
            max((record.arrived for record in found.values()), default=begin) - begin,
        )

    def _has_predictions(self, ids: Iterable[str]) -> bool:
        records = self.reader("predictions").records
        for record in records[self._n_indexed :]:
            self._predictions.setdefault(record.json["id"], record)
        self._n_indexed = len(records)
        return all(name in self._predictions for name in ids)


def npy(image: Pixels) -> bytes:
    """Return an array in numpy's file format."""
    buffer = io.BytesIO()
    np.save(buffer, image)
    return buffer.getvalue()
