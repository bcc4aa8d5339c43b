"""Labelled images of a data folder, to send to a worker and to judge its predictions by."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["LabelledImages"]


@dataclass(frozen=True)
class LabelledImages:
    """Grey images (N, H, W), uint8, and their N labels."""

    images: NDArray[np.uint8]
    labels: list[str]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the images that a folder's `info.csv` lists, all of one size."""
        with (folder / "info.csv").open(newline="", encoding="utf-8") as table:
            rows = list(csv.DictReader(table))
        images = [cv2.imread(str(folder / row["files"]), cv2.IMREAD_GRAYSCALE) for row in rows]
        return cls(np.stack(images).astype(np.uint8), [row["type"] for row in rows])  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.labels)

    def ids(self, prefix: str) -> list[str]:
        """Return an id for each image: the prefix and its number."""
        return [f"{prefix}-{index}" for index in range(len(self))]

    def accuracy(self, predictions: Mapping[str, Mapping[str, Any]], ids: Sequence[str]) -> float:
        """Return the share of the images whose prediction names their label.

        Args:
            predictions: by id; an image without one counts as wrong.
            ids: of the images, in their order.
        """
        right = [
            name in predictions and str(predictions[name]["label"]) == label
            for name, label in zip(ids, self.labels, strict=True)
        ]
        return sum(right) / len(right)
