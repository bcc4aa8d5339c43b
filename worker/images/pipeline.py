"""The way of an image: it arrives, is decoded, classified, published, confirmed, acknowledged.

Promise: an event is acknowledged when the broker has confirmed a prediction or a dead letter for
each of its records, and never after a later one of the same partition. Each stage has a thread of
its own and works on another batch, so that decoding, the model and the broker overlap; two batches
are classified at a time, and one uses the processor while the other waits. Short queues between
the stages keep the batches in their order, and bound what is in hand.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import mode
import numpy as np
from aiokafka.structs import ConsumerRecord
from confluent_kafka import KafkaError
from faust.types import EventT
from numpy.typing import NDArray

from worker.errors import BrokerError
from worker.images.batch import Batch, answers, classify, decode_batch
from worker.images.dead_letters import without_value
from worker.images.decode import Limits
from worker.images.metrics import ServingMetrics
from worker.images.predictor import Predictor
from worker.images.settings import ServingSettings
from worker.kafka.bundles import Bundle
from worker.kafka.publisher import Outgoing, Publisher, Refusals
from worker.kafka.topics import Topics

__all__ = ["CLASSIFIERS", "Pipeline"]

CLASSIFIERS = 2
"""Batches that are classified at a time."""
ARRIVED_BUNDLES = 4
CONFIRMING_BATCHES = 4
STUCK_S = 60.0

Scores = NDArray[np.float32]
"""NxC: the probability of each class, by image."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch, and the events that are acknowledged when all of it is answered."""

    events: Sequence[EventT[Any]]
    batch: Batch


@dataclass(frozen=True, slots=True)
class Classifying:
    """A batch that a classifier is at."""

    decoded: Decoded
    scores: "asyncio.Future[Scores]"


@dataclass(frozen=True, slots=True)
class Published:
    """A batch whose answers the broker has still to confirm."""

    decoded: Decoded
    answers: Sequence[Outgoing]
    refusals: "Future[Refusals]"


def records_of(event: EventT[Any]) -> Sequence[ConsumerRecord[bytes, bytes]]:
    """Return the records of an event whose message is a bundle."""
    return cast("Bundle", event.message).records


class Pipeline(mode.Service):
    """Takes events that each carry a bundle of records, and acknowledges them in order."""

    def __init__(
        self,
        predictor: Predictor,
        publisher: Publisher,
        topics: Topics,
        metrics: ServingMetrics,
        settings: ServingSettings,
    ) -> None:
        super().__init__()
        self._metrics = metrics
        self._predictor = predictor
        self._publisher = publisher
        self._topics = topics
        self._settings = settings
        self._limits = Limits(settings.max_image_bytes, settings.max_image_pixels)
        self._arrived: asyncio.Queue[EventT[Any]] = asyncio.Queue(ARRIVED_BUNDLES)
        self._decoded: asyncio.Queue[Decoded] = asyncio.Queue(1)
        self._classifying: asyncio.Queue[Classifying] = asyncio.Queue(CLASSIFIERS - 1)
        self._published: asyncio.Queue[Published] = asyncio.Queue(CONFIRMING_BATCHES)
        self._began: dict[object, tuple[str, float]] = {}
        """By a key of its own, each piece of work that a thread is at: its stage and since when."""
        self._threads = {
            stage: ThreadPoolExecutor(n_threads, thread_name_prefix=stage)
            for stage, n_threads in {"decode": 1, "classify": CLASSIFIERS, "publish": 1}.items()
        }

    async def put(self, event: EventT[Any]) -> None:
        """Take an event whose message is a bundle; waits while enough is in hand."""
        await self._arrived.put(event)

    async def on_stop(self) -> None:
        """Let the threads finish what they are at."""
        for executor in self._threads.values():
            executor.shutdown(wait=False, cancel_futures=True)

    @mode.Service.task
    async def _decode(self) -> None:
        while not self.should_stop:
            events = await self._next_events()
            records = [record for event in events for record in records_of(event)]
            batch = await self._in_thread(
                "decode",
                decode_batch,
                records,
                self._predictor.model,
                self._limits,
                self._topics.dead_letters,
            )
            self._metrics.count_decoded(len(batch.images))
            await self._decoded.put(Decoded(events, batch))

    async def _next_events(self) -> Sequence[EventT[Any]]:
        """Return what has arrived: a batch by size, or by time where images are few."""
        events = [await self._arrived.get()]
        n_records = len(records_of(events[0]))
        try:
            async with asyncio.timeout(self._settings.max_batch_wait_s):
                while n_records < self._settings.batch_size:
                    events.append(await self._arrived.get())
                    n_records += len(records_of(events[-1]))
        except TimeoutError:
            pass
        return events

    @mode.Service.task
    async def _classify(self) -> None:
        while not self.should_stop:
            decoded = await self._decoded.get()
            scores = self._in_thread("classify", classify, decoded.batch, self._settings.batch_size)
            await self._classifying.put(Classifying(decoded, asyncio.ensure_future(scores)))

    @mode.Service.task
    async def _publish(self) -> None:
        while not self.should_stop:
            classified = await self._classifying.get()
            scores = await classified.scores
            published = await self._in_thread("publish", self._answer, classified.decoded, scores)
            await self._published.put(published)

    def _answer(self, decoded: Decoded, scores: Scores) -> Published:
        messages = answers(decoded.batch, scores, self._topics, self._settings.top_k)
        return Published(decoded, messages, self._publisher.publish(messages))

    @mode.Service.task
    async def _acknowledge(self) -> None:
        while not self.should_stop:
            published = await self._published.get()
            refusals = await asyncio.wrap_future(published.refusals)
            if refusals:
                await self._publish_smaller(published.answers, refusals)
            for event in published.decoded.events:
                event.ack()
            batch = published.decoded.batch
            self._metrics.count_answered(batch.ages_s(), batch.reasons())

    async def _publish_smaller(self, messages: Sequence[Outgoing], refusals: Refusals) -> None:
        """Send again, without its value, each dead letter that was too large with its headers.

        Raises:
            BrokerError: the broker refused a message for another reason; nothing is acknowledged.
        """
        for index, error in refusals.items():
            message = messages[index]
            is_dead_letter = message.topic == self._topics.dead_letters
            if error.code() != KafkaError.MSG_SIZE_TOO_LARGE or not is_dead_letter:
                raise BrokerError(
                    f"topic {message.topic!r}: the broker refused a message: {error.str()}; "
                    "the worker ends, and the images are classified again after its restart"
                )
        smaller = [without_value(messages[index]) for index in refusals]
        still_refused = await asyncio.wrap_future(self._publisher.publish(smaller))
        for error in still_refused.values():
            raise BrokerError(
                f"topic {self._topics.dead_letters!r}: the broker refused a dead letter "
                f"even without its value: {error.str()}"
            )

    async def _in_thread(self, stage: str, work: Callable[..., T], *arguments: Any) -> T:
        this, start = object(), time.monotonic()
        self._began[this] = stage, start
        try:
            return await self.loop.run_in_executor(self._threads[stage], work, *arguments)
        finally:
            del self._began[this]
            self._metrics.count_stage(stage, time.monotonic() - start)

    def problem(self) -> str | None:
        """Say which stage is at one batch for more than a minute; publishing may wait for Kafka."""
        for stage, since in list(self._began.values()):
            busy_s = time.monotonic() - since
            if stage != "publish" and busy_s > STUCK_S:
                return f"the {stage} stage has been at one batch for {busy_s:.0f} s"
        return None
