"""What stands around a worker: who sends images and commands, who reads what comes out."""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from tests.worker_process import wait_until

Json = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """One message as it was read."""

    key: bytes | None
    value: bytes
    headers: dict[str, bytes]

    @classmethod
    def of(cls, message: Message) -> Self:
        pairs = cast("list[tuple[str, bytes | None]]", message.headers() or [])
        headers = {name: value or b"" for name, value in pairs}
        return cls(message.key(), message.value() or b"", headers)

    @property
    def json(self) -> Json:
        return dict(json.loads(self.value))


class TopicReader:
    """Reads a topic from its beginning, all partitions, without a consumer group."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic = topic
        self.records: list[Record] = []
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"reader-{uuid.uuid4()}",  # required, not joined
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 20,
                "log_level": 0,
            }
        )
        self._consumer.assign(wait_until(f"topic {topic}", self._partitions, 30.0))

    def _partitions(self) -> list[TopicPartition]:
        metadata = self._consumer.list_topics(timeout=10.0).topics.get(self.topic)
        return (
            [TopicPartition(self.topic, index, 0) for index in metadata.partitions]
            if metadata
            else []
        )

    def read(self, timeout_s: float) -> None:
        """Add what is there to `records`, waiting at most so long for a first message."""
        for message in self._consumer.consume(1000, timeout_s):
            if error := message.error():
                if error.code() not in (KafkaError._PARTITION_EOF, KafkaError._TRANSPORT):
                    raise KafkaException(error)
                continue
            self.records.append(Record.of(message))

    def until(
        self, what: str, enough: Callable[[list[Record]], bool], timeout_s: float
    ) -> list[Record]:
        """Read until the records are enough, and return all of them.

        Raises:
            AssertionError: they are not within `timeout_s`; says what came instead.
        """
        deadline = time.monotonic() + timeout_s
        while not enough(self.records):
            if time.monotonic() > deadline:
                last = [record.value[:300] for record in self.records[-5:]]
                raise AssertionError(
                    f"{self.topic}: no {what} within {timeout_s:g} s;"
                    f" {len(self.records)} messages came, the last: {last}"
                )
            self.read(0.05)
        return self.records

    def close(self) -> None:
        self._consumer.close()


class StreamClient:
    """A client of one deployment: sends to its topics, reads what comes out of them."""

    def __init__(self, bootstrap: str, topic: str = "images") -> None:
        self.topic = topic
        self._bootstrap = bootstrap
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "linger.ms": 1, "log_level": 0, "acks": "all"}
        )
        self._readers: dict[str, TopicReader] = {}
        self._refused: list[KafkaError] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._readers.values():
            reader.close()
        self._producer.flush(5.0)

    def reader(self, suffix: str) -> TopicReader:
        """Return the reader of `<topic>-<suffix>`, made at its first use."""
        if suffix not in self._readers:
            self._readers[suffix] = TopicReader(self._bootstrap, f"{self.topic}-{suffix}")
        return self._readers[suffix]

    # what goes in

    def send(
        self,
        payload: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        key: bytes | None = None,
        topic: str | None = None,
    ) -> None:
        """Send bytes to the images topic, or another one."""
        self._producer.poll(0)
        self._producer.produce(
            topic or self.topic,
            payload,
            key=key,
            headers=[(name, value.encode()) for name, value in (headers or {}).items()],
            on_delivery=self._delivered,
        )

    def send_images(self, images: np.ndarray, ids: Sequence[str]) -> None:
        """Send images (N, H, W) or (N, H, W, C), one a message as npy; wait for all."""
        for image, name in zip(images, ids, strict=True):
            self.send(npy(image), headers={"content-type": "application/x-npy", "id": name})
        self.flush()

    def command(self, command: str, *, id: str | None = None, **fields: object) -> str:  # noqa: A002
        """Send a command, and return its id."""
        name = id or f"{command}-{uuid.uuid4().hex[:8]}"
        content = {"command": command, "id": name, **fields}
        self.send(json.dumps(content).encode(), topic=f"{self.topic}-control")
        self.flush()
        return name

    def flush(self) -> None:
        """Wait until the broker has confirmed everything that was sent."""
        assert self._producer.flush(30.0) == 0, "the broker did not confirm in time"
        assert not self._refused, f"the broker refused: {self._refused}"

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._refused.append(error)

    # what comes out

    def predictions(self, ids: Iterable[str], timeout_s: float = 120.0) -> dict[str, Json]:
        """Wait for a prediction of each id, and return the first one of each."""
        wanted = set(ids)

        def all_there(records: list[Record]) -> bool:
            return len(records) >= len(wanted) and wanted <= {
                record.json["id"] for record in records
            }

        records = self.reader("predictions").until(
            f"prediction of {len(wanted)} ids", all_there, timeout_s
        )
        first: dict[str, Json] = {}
        for record in records:
            first.setdefault(record.json["id"], record.json)
        return {name: first[name] for name in wanted}

    def event(self, event: str, timeout_s: float = 120.0, **fields: object) -> Json:
        """Wait for an event with these fields, and return the first such."""
        return self.events(event, 1, timeout_s, **fields)[0]

    def events(
        self, event: str, count: int, timeout_s: float = 120.0, **fields: object
    ) -> list[Json]:
        """Wait for so many events with these fields, and return all that are there."""
        wanted = {"event": event, **fields}

        def matching(records: list[Record]) -> list[Json]:
            return [record.json for record in records if wanted.items() <= record.json.items()]

        what = f"{count} events like {wanted}"
        return matching(
            self.reader("events").until(what, lambda all_: len(matching(all_)) >= count, timeout_s)
        )

    def dead_letter(self, value: bytes, timeout_s: float = 30.0) -> Record:
        """Wait for the dead letter with exactly these bytes, and return it."""
        what = f"dead letter {value[:60]!r}"
        records = self.reader("dead-letters").until(
            what, lambda all_: any(record.value == value for record in all_), timeout_s
        )
        return next(record for record in records if record.value == value)


def npy(image: np.ndarray) -> bytes:
    """Return an array in numpy's file format."""
    buffer = io.BytesIO()
    np.save(buffer, image)
    return buffer.getvalue()
