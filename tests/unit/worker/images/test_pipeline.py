"""The way of an image, with a model and a publisher that do what the test wants."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pytest
from aiokafka.structs import ConsumerRecord
from confluent_kafka import KafkaError
from numpy.typing import NDArray
from prometheus_client import generate_latest

from worker.errors import BrokerError
from worker.images.metrics import ServingMetrics
from worker.images.model_id import ModelId
from worker.images.pipeline import Pipeline
from worker.images.predictor import Predictor
from worker.images.settings import ServingSettings
from worker.kafka.publisher import Outgoing, Refusals
from worker.kafka.topics import Topics
from worker.runtime.metrics import registry_of

TOPICS = Topics("images", "predictions", "control", "events", "dead-letters")


class Model:
    """Sees in every image the class of its first pixel."""

    id = ModelId("job", 3, "abc")
    class_names = ("zero", "one", "two")

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []

    def to_input(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return pixels[..., None]

    def probabilities(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batch_sizes.append(len(batch))
        return np.eye(3, dtype=np.float32)[batch[:, 0, 0, 0]]


class Publisher:
    """Keeps what is published; a delivery is confirmed when the test says so, or at once."""

    def __init__(self) -> None:
        self.messages: list[Outgoing] = []
        self.deliveries: list[Future[Refusals]] = []
        self.refuse: dict[str, int] = {}
        self.at_once = True

    def publish(self, messages: Sequence[Outgoing]) -> "Future[Refusals]":
        delivery: Future[Refusals] = Future()
        self.messages += messages
        self.deliveries.append(delivery)
        if self.at_once:
            delivery.set_result(
                {
                    index: KafkaError(self.refuse[message.topic])
                    for index, message in enumerate(messages)
                    if message.topic in self.refuse and message.value is not None
                }
            )
        return delivery


@dataclass
class Event:
    """A Faust event whose message is a bundle."""

    records: Sequence[ConsumerRecord[bytes, bytes]]
    acknowledged: list["Event"]
    message: Any = field(init=False)

    def __post_init__(self) -> None:
        self.message = self

    def ack(self) -> None:
        self.acknowledged.append(self)


class Way:
    """A pipeline and what stands around it."""

    def __init__(self, *, batch_size: int = 4, within_s: float = 0.01) -> None:
        self.model = Model()
        self.publisher = Publisher()
        self.metrics = ServingMetrics()
        self.acknowledged: list[Event] = []
        predictor = Predictor(on_first_model=lambda: None)
        predictor.swap(self.model)  # type: ignore[arg-type]
        self.pipeline = Pipeline(
            predictor,
            self.publisher,  # type: ignore[arg-type]
            TOPICS,
            self.metrics,
            ServingSettings(
                max_image_bytes=1000,
                max_image_pixels=1000,
                batch_size=batch_size,
                max_batch_wait_s=within_s,
                top_k=2,
            ),
        )
        self._offset = 0

    async def put(self, *values: bytes) -> Event:
        event = Event([self._record(value) for value in values], self.acknowledged)
        await self.pipeline.put(event)  # type: ignore[arg-type]
        return event

    def _record(self, value: bytes) -> ConsumerRecord[bytes, bytes]:
        self._offset += 1
        return ConsumerRecord("images", 0, self._offset, 0, 0, b"k", value, None, 1, 1, ())

    async def until_acknowledged(self, n_events: int) -> None:
        async with asyncio.timeout(5):
            while len(self.acknowledged) < n_events:
                await asyncio.sleep(0.001)


@pytest.fixture
async def way() -> AsyncIterator[Way]:
    made = Way()
    await made.pipeline.start()
    yield made
    await made.pipeline.stop()


def image(label: int) -> bytes:
    return orjson.dumps({"image": [[label, 0], [0, 0]]})


async def test_every_image_is_answered_and_then_acknowledged(way: Way) -> None:
    """A prediction for what is an image, a dead letter for what is none, in order."""
    event = await way.put(image(2), b"no image", image(1))
    await way.until_acknowledged(1)
    first, second, letter = way.publisher.messages
    assert way.acknowledged == [event]
    assert [orjson.loads(m.value or b"")["label"] for m in (first, second)] == ["two", "one"]
    assert (letter.topic, letter.value, letter.key) == ("dead-letters", b"no image", b"k")
    assert dict(letter.headers)["reason"] == b"undecodable"


async def test_an_unforeseen_error_of_one_message_stops_nothing(way: Way) -> None:
    """It would end the worker at each of its starts; the message becomes a dead letter."""

    def to_input(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if pixels[0, 1]:
            raise RuntimeError("never seen")
        return pixels[..., None]

    way.model.to_input = to_input  # type: ignore[method-assign]
    await way.put(image(2), orjson.dumps({"image": [[0, 1], [0, 0]]}), image(1))
    await way.until_acknowledged(1)
    *predictions, letter = way.publisher.messages
    assert [orjson.loads(m.value or b"")["label"] for m in predictions] == ["two", "one"]
    assert b"never seen" in (dict(letter.headers)["error"] or b"")


async def test_what_was_confirmed_is_counted(way: Way) -> None:
    """Images, predictions, and dead letters by their reason."""
    await way.put(image(2), b"no image", image(1), b"")
    await way.until_acknowledged(1)
    text = generate_latest(registry_of(way.metrics.collectors)).decode()
    assert "darkroom_images_total 2.0" in text
    assert "darkroom_predictions_total 2.0" in text
    assert 'darkroom_dead_letters_total{reason="undecodable"} 1.0' in text
    assert 'darkroom_dead_letters_total{reason="empty"} 1.0' in text
    assert 'darkroom_stage_seconds_count{stage="classify"} 1.0' in text
    assert "darkroom_latency_seconds_count 2.0" in text


async def test_a_prediction_has_every_field(way: Way) -> None:
    """Who sent what, what it shows, which model says so, and how long it took."""
    await way.put(image(1))
    await way.until_acknowledged(1)
    prediction = orjson.loads(way.publisher.messages[0].value or b"")
    latency_ms = prediction.pop("latency_ms")
    assert latency_ms > 0
    assert prediction == {
        "id": "images-0-1",
        "label": "one",
        "index": 1,
        "confidence": 1.0,
        "top_k": [
            {"label": "one", "index": 1, "confidence": 1.0},
            {"label": "zero", "index": 0, "confidence": 0.0},
        ],
        "model": {"job": "job", "epoch": 3, "sha256": "abc"},
        "source": {"topic": "images", "partition": 0, "offset": 1, "timestamp": 0},
    }


async def test_nothing_is_acknowledged_before_it_is_confirmed(way: Way) -> None:
    """The broker's word is waited for, and events are acknowledged in their order."""
    way.publisher.at_once = False
    first = await way.put(*[image(0)] * 4)
    second = await way.put(*[image(1)] * 4)
    async with asyncio.timeout(5):
        while len(way.publisher.deliveries) < 2:
            await asyncio.sleep(0.001)
    way.publisher.deliveries[1].set_result({})
    await asyncio.sleep(0.01)
    assert way.acknowledged == []
    way.publisher.deliveries[0].set_result({})
    await way.until_acknowledged(2)
    assert way.acknowledged == [first, second]


async def test_events_are_put_together_to_a_batch(way: Way) -> None:
    """Few images that arrive together are classified together, up to the batch size."""
    for label in (0, 1, 2, 0):
        await way.put(image(label))
    await way.until_acknowledged(4)
    assert way.model.batch_sizes == [4]


async def test_a_batch_is_not_waited_for_forever(way: Way) -> None:
    """A single image is answered after the time that a batch may wait."""
    await way.put(image(0))
    await way.until_acknowledged(1)
    assert way.model.batch_sizes == [1]


async def test_the_model_gets_no_more_than_a_batch_at_once(way: Way) -> None:
    """A large bundle goes through the model in parts."""
    await way.put(*[image(1)] * 10)
    await way.until_acknowledged(1)
    assert way.model.batch_sizes == [4, 4, 2]


async def test_a_dead_letter_that_is_too_large_goes_without_its_value(way: Way) -> None:
    """A message at the broker's limit has no room for the headers; its place is told instead."""
    way.publisher.refuse = {"dead-letters": KafkaError.MSG_SIZE_TOO_LARGE}
    await way.put(b"no image")
    await way.until_acknowledged(1)
    letter = way.publisher.messages[-1]
    assert (letter.value, dict(letter.headers)["value-omitted"]) == (None, b"true")


async def test_a_refused_prediction_ends_the_worker() -> None:
    """Nothing is acknowledged, so that the images are classified after the restart."""
    way = Way()
    way.publisher.refuse = {"predictions": KafkaError.TOPIC_AUTHORIZATION_FAILED}
    await way.pipeline.start()
    await way.put(image(1))
    async with asyncio.timeout(5):
        while not way.pipeline.crashed:
            await asyncio.sleep(0.001)
    assert isinstance(way.pipeline.crash_reason, BrokerError)
    assert "'predictions': the broker refused" in str(way.pipeline.crash_reason)
    assert way.acknowledged == []
    await way.pipeline.stop()
