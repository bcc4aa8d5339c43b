"""Some messages on their way through the worker together, from records to what is published."""

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
from worker.images.predictions import predictions
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
    sources: Sequence[tuple[Record, str]]
    """The record that each image came in, and the image's id."""
    images: Sequence[NDArray[np.uint8]]
    """Each HxW or HxWx3, as the model wants it."""
    dead_letters: Sequence[Outgoing]

    def ages_s(self) -> list[float]:
        """Return how long ago each image was sent, by its record's timestamp."""
        now_ms = time.time() * 1000
        return [(now_ms - record.timestamp) / 1000 for record, _ in self.sources]

    def reasons(self) -> list[str]:
        """Return why each dead letter is one."""
        return [reason_of(letter.headers) for letter in self.dead_letters]


def decode_batch(
    records: Iterable[Record], model: "Model", limits: Limits, dead_letters_topic: str
) -> Batch:
    """Decode records and fit their images to the model; what is no image becomes a dead letter."""
    sources: list[tuple[Record, str]] = []
    images: list[NDArray[np.uint8]] = []
    letters: list[Outgoing] = []
    for record in records:
        try:
            # of large images only the fitted copies pile up
            fitted = [(image.id, model.fit(image.pixels)) for image in decode(record, limits)]
        except BadImage as problem:
            letters.append(dead_letter(dead_letters_topic, record, problem))
        except MemoryError:
            raise  # the worker's own trouble, not the message's
        except Exception as error:  # the worker must not end, start again, and meet it again
            logger.exception("partition=%d offset=%d: unforeseen", record.partition, record.offset)
            unforeseen = BadImage("undecodable", f"decoding failed: {error!r}")
            letters.append(dead_letter(dead_letters_topic, record, unforeseen))
        else:
            sources += [(record, image_id) for image_id, _ in fitted]
            images += [pixels for _, pixels in fitted]
    return Batch(model, sources, images, letters)


def classify(batch: Batch, at_most: int) -> NDArray[np.float32]:
    """Return NxC probabilities of a batch's N images, `at_most` of them in one forward pass."""
    images = batch.images
    parts = [
        batch.model.probabilities(np.stack(images[start : start + at_most]))
        for start in range(0, len(images), at_most)
    ]
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


def answers(
    batch: Batch, scores: NDArray[np.float32], topics: Topics, top_k: int
) -> list[Outgoing]:
    """Return what a batch is answered with: a prediction for each image, then the dead letters."""
    texts = predictions(batch.sources, scores, batch.model, top_k=top_k, now_s=time.time())
    predicted = [
        Outgoing(topics.predictions, record.key, text)
        for (record, _), text in zip(batch.sources, texts, strict=True)
    ]
    return [*predicted, *batch.dead_letters]
