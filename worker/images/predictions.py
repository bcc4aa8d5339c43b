"""The message that tells what an image shows."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import orjson
from aiokafka.structs import ConsumerRecord
from numpy.typing import NDArray

if TYPE_CHECKING:
    from worker.images.model import Model

__all__ = ["predictions"]


def predictions(
    sources: Sequence[tuple[ConsumerRecord[bytes, bytes], str]],
    scores: NDArray[np.float32],
    model: "Model",
    *,
    top_k: int,
    now_s: float,
) -> Iterator[bytes]:
    """Write a prediction for each image.

    Args:
        sources: N records and image ids.
        scores: NxC probabilities.
        model: the model that gave them.
        top_k: how many of the classes are listed, the likeliest first.
        now_s: the time of the prediction; `latency_ms` counts from the record's timestamp to it.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    confidences = np.take_along_axis(scores, order, axis=1).tolist()
    name = asdict(model.id)
    labels = model.class_names
    for (record, image_id), indices, likely in zip(
        sources, order.tolist(), confidences, strict=True
    ):
        best = indices[0]
        yield orjson.dumps(
            {
                "id": image_id,
                "label": labels[best],
                "index": best,
                "confidence": likely[0],
                "top_k": [
                    {"label": labels[index], "index": index, "confidence": confidence}
                    for index, confidence in zip(indices, likely, strict=True)
                ],
                "model": name,
                "source": {
                    "topic": record.topic,
                    "partition": record.partition,
                    "offset": record.offset,
                    "timestamp": record.timestamp,
                },
                "latency_ms": round(now_s * 1000 - record.timestamp, 3),
            }
        )
