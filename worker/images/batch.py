"""Messages that pass through the worker together, from records to what is published."""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from aiokafka.structs import ConsumerRecord
from numpy.typing import NDArray

from worker.errors import BadImage
from worker.images.dead_letters import dead_letter
from worker.images.decode import Limits, decode
from worker.images.predictions import Source, predictions
from worker.kafka.dead_letters import reason_of
from worker.kafka.publisher import Outgoing
from worker.kafka.topics import Topics

if TYPE_CHECKING:
    from worker.images.model import Model

__all__ = ["Batch", "answers", "classify", "decode_batch"]

logger = logging.getLogger(__name__)

Record: TypeAlias = ConsumerRecord[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Batch:
    """Decoded messages, and the model that was deployed when they were."""

    model: "Model"
    sources: Sequence[Source]
    """Where each image came from."""
    images: Sequence[NDArray[np.uint8]]
    """Each HxWxC, as the model takes it."""
    dead_letters: Sequence[Outgoing]

    def ages_s(self) -> list[float]:
        """Return how long ago each image was sent, by its record's timestamp."""
        now_ms = time.time() * 1000
        return [(now_ms - source.record.timestamp) / 1000 for source in self.sources]

    def reasons(self) -> list[str]:
        """Return the reason of each dead letter."""
        return [reason_of(letter.headers) for letter in self.dead_letters]


def decode_batch(
    records: Iterable[Record], model: "Model", limits: Limits, dead_letters_topic: str
) -> Batch:
    """Decode records into inputs of a model; messages without an image become dead letters."""
    sources: list[Source] = []
    images: list[NDArray[np.uint8]] = []
    letters: list[Outgoing] = []
    for record in records:
        try:
            # of large images only the small inputs pile up
            decoded = [
                (Source(record, image.id), model.to_input(image.pixels))
                for image in decode(record, limits)
            ]
        except BadImage as problem:
            letters.append(dead_letter(dead_letters_topic, record, problem))
        except MemoryError:
            raise  # the worker's own trouble, not the message's
        except Exception as error:  # the worker must not end, start again, and meet it again
            logger.exception("partition=%d offset=%d: unforeseen", record.partition, record.offset)
            unforeseen = BadImage("undecodable", f"decoding failed: {error!r}")
            letters.append(dead_letter(dead_letters_topic, record, unforeseen))
        else:
            sources += [source for source, _ in decoded]
            images += [pixels for _, pixels in decoded]
    return Batch(model, sources, images, letters)


def classify(batch: Batch, at_most: int) -> NDArray[np.float32]:
    """Return NxC probabilities of a batch's N images, `at_most` of them in one forward pass."""
    images = batch.images
    parts = [
        batch.model.probabilities(np.array(images[start : start + at_most]))  # stacks, fast
        for start in range(0, len(images), at_most)
    ]
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


def answers(
    batch: Batch, scores: NDArray[np.float32], topics: Topics, top_k: int
) -> list[Outgoing]:
    """Return the answers to a batch: a prediction for each image, then the dead letters."""
    texts = predictions(batch.sources, scores, batch.model, top_k=top_k, now_s=time.time())
    predicted = [
        Outgoing(topics.predictions, source.record.key, text)
        for source, text in zip(batch.sources, texts, strict=True)
    ]
    return [*predicted, *batch.dead_letters]
