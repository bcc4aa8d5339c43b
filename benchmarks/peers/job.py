"""The common part of all peers: arguments, decoding, the plain model, predictions."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import orjson
import torch
from numpy.typing import NDArray

import trainer

BATCH = 256
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Job:
    """Where a peer reads, where it writes, and which checkpoint it serves."""

    bootstrap: str
    topic: str
    answers: str
    group: str
    checkpoint: Path

    @classmethod
    def from_arguments(cls) -> Self:
        """Read the command line."""
        bootstrap, topic, answers, group, checkpoint = sys.argv[1:]
        return cls(bootstrap, topic, answers, group, Path(checkpoint))


class PlainModel:
    """A checkpoint as PyTorch runs it: float32, eager."""

    def __init__(self, path: Path) -> None:
        checkpoint = trainer.load_checkpoint(path)
        self._module = checkpoint.classifier()
        self._transform = checkpoint.transform()
        self.names = checkpoint.class_names
        self.answer([("", np.zeros((28, 28), np.uint8))])

    def scores(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Return NxC probabilities of N images."""
        with torch.inference_mode():
            x = self._transform(torch.from_numpy(np.stack(images)[..., None]))
            result: NDArray[np.float32] = self._module(x).numpy()
        return result

    def answer(self, images: Sequence[tuple[str, Image]]) -> list[bytes]:
        """Return a prediction for each image."""
        scores = self.scores([image for _, image in images])
        return answers([name for name, _ in images], scores, self.names)


def answers(ids: Sequence[str], scores: NDArray[np.float32], names: Sequence[str]) -> list[bytes]:
    """Return predictions with the fields that any consumer needs; the worker's have more."""
    best = scores.argmax(axis=1).tolist()
    sure = scores.max(axis=1).tolist()
    return [
        orjson.dumps({"id": name, "label": names[index], "index": index, "confidence": confidence})
        for name, index, confidence in zip(ids, best, sure, strict=True)
    ]


def decode(value: bytes, headers: Any) -> tuple[str, Image]:
    """Return id and pixels of raw bytes (with headers) or of the JSON form (without)."""
    if headers:
        fields: Mapping[str, bytes] = dict(headers)
        return fields["id"].decode(), np.frombuffer(value, np.uint8).reshape(28, 28)
    content = orjson.loads(value)
    return content["id"], np.array(content["image"], np.uint8)
