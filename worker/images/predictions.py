"""The message that says what an image shows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson
from aiokafka.structs import ConsumerRecord
from numpy.typing import NDArray

if TYPE_CHECKING:
    from worker.images.model import Model

__all__ = ["Source", "predictions"]


class Source(NamedTuple):
    """Where an image came from: its record, and the id of the image."""

    record: ConsumerRecord[bytes, bytes]
    image_id: str


def predictions(
    sources: Sequence[Source],
    scores: NDArray[np.float32],
    model: "Model",
    *,
    top_k: int,
    now_s: float,
) -> Iterator[bytes]:
    """Write a prediction for each image.

    Args:
        sources: N sources.
        scores: NxC probabilities.
        model: The model that computed them.
        top_k: How many classes are listed, the likeliest first.
        now_s: Time of the prediction; `latency_ms` counts from the record's timestamp to it.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    confidences = np.take_along_axis(scores, order, axis=1).tolist()
    model_id, labels = asdict(model.id), model.class_names
    for source, indices, likely in zip(sources, order.tolist(), confidences, strict=True):
        classes = [
            {"label": labels[index], "index": index, "confidence": confidence}
            for index, confidence in zip(indices, likely, strict=True)
        ]
        yield orjson.dumps(
            {
                "id": source.image_id,
                **classes[0],
                "top_k": classes,
                "model": model_id,
                "source": _place(source.record),
                "latency_ms": round(now_s * 1000 - source.record.timestamp, 3),
            }
        )


def _place(record: ConsumerRecord[bytes, bytes]) -> Mapping[str, Any]:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
    }
