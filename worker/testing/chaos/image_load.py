"""Images for a deployment under test: each sent once and known to Kafka, whatever happens to it."""

from __future__ import annotations

import threading
import time
from typing import Self

import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray

from worker.testing.clients.kafka_clients import Kafka, client_settings

__all__ = ["ImageLoad", "Pixels"]

Pixels = NDArray[np.uint8]

BROKEN_EVERY = 97
N_KEYS = 50
TICK_S = 0.01
CONFIRMED_S = 120.0


class ImageLoad:
    """Sends images at a steady rate from a thread of its own until it is stopped.

    The image number n has the id "n" and the key "key-<n mod 50>"; every 97th is cut short, so
    that dead letters come too. The producer is idempotent and patient: each image is in Kafka
    exactly once, and those of a key in their order.

    Args:
        kafka: `host:port` of a Kafka, or the connection to a secured one.
        topic: an images topic.
        images: grey images (N, H, W), sent over and over.
        per_s: images per second.
        limit: how many images are sent at most.
    """

    def __init__(
        self, kafka: Kafka, topic: str, images: Pixels, per_s: float, limit: int = 10**9
    ) -> None:
        self.topic = topic
        self.sent = 0
        self._payloads = [image.tobytes() for image in images]
        shape = ",".join(map(str, images.shape[1:]))
        self._headers = [("content-type", b"application/octet-stream"), ("shape", shape.encode())]
        self._per_s = per_s
        self._limit = limit
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._producer = Producer(
            {
                **client_settings(kafka),
                "enable.idempotence": True,
                "linger.ms": 2,
                "message.timeout.ms": 600_000,
                "partitioner": "murmur2_random",
                "queue.buffering.max.messages": 2_000_000,
            }
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        begin = time.monotonic()
        while not self._is_over.wait(TICK_S) and self.sent < self._limit:
            due = min(self._limit, int((time.monotonic() - begin) * self._per_s))
            while self.sent < due:
                self._send(self.sent)
                self.sent += 1
            self._producer.poll(0)

    def _send(self, number: int) -> None:
        payload = self._payloads[number % len(self._payloads)]
        self._producer.produce(
            self.topic,
            payload[:-1] if number % BROKEN_EVERY == 0 else payload,
            key=f"key-{number % N_KEYS}",
            headers=[*self._headers, ("id", str(number).encode())],
        )

    def stop(self) -> int:
        """Send no more, wait until Kafka has them all, and return how many there are.

        Raises:
            TimeoutError: Kafka has not confirmed all of them within two minutes.
        """
        self._is_over.set()
        self._thread.join()
        if left := self._producer.flush(CONFIRMED_S):
            raise TimeoutError(f"{left} of {self.sent} images could not be sent")
        return self.sent
