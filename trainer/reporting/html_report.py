"""The report of a run: one HTML file that opens without a server, scripts or a network."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer.data.splits import Split
from trainer.machine.durable import write_durably
from trainer.machine.versions import versions
from trainer.metrics.figures import confident_mistakes, per_class
from trainer.metrics.meters import confusion_matrix
from trainer.observers import EpochReport, FitResult, Observer, RunStarted, TestOutputs
from trainer.params.params import Params
from trainer.reporting.charts import Point, line_chart
from trainer.reporting.history import History
from trainer.reporting.page import page
from trainer.reporting.pictures import MOST_COUNTS, Picture, as_png, confusion_picture, shades

__all__ = ["Report", "curves"]

NAME = "report.html"
SHOWN_MISTAKES = 24
SPLITS = ("train", "test")


class Report(Observer):
    """Writes `history.jsonl` after each epoch, and `report.html` when a run finishes or is stopped.

    Args:
        logdir: The folder of both files.
        params: Shown in the report.
        test_split: The images among which mistakes are shown.
    """

    def __init__(self, logdir: Path, params: Params, test_split: Split) -> None:
        self._path = logdir / NAME
        self._params = params
        self._split = test_split
        self._history = History(logdir)
        self._outputs: TestOutputs | None = None

    def on_start(self, started: RunStarted) -> None:
        """Take over the epochs that are done already."""
        self._history.start(started.first_epoch)

    def on_epoch(self, report: EpochReport) -> None:
        """Write the epoch's figures, and remember the evaluation."""
        self._outputs = report.test_outputs or self._outputs
        self._history.add(report)

    def on_finish(self, result: FitResult) -> None:
        """Write the report."""
        params = {key: json.dumps(value) for key, value in self._params.as_json().items()}
        text = page(
            "report.html",
            f"{result.status.capitalize()} after epoch {result.epoch} of {result.num_epochs}",
            metrics=result.metrics,
            charts=list(curves(self._history.epochs)),
            evaluation=self._outputs and shown_evaluation(self._outputs, self._split),
            params=params,
            versions=versions(),
        )
        write_durably(self._path, text.encode())


@dataclass(frozen=True)
class ShownCell:
    """One count of the confusion matrix, with the colours of its cell as in CSS."""

    count: int
    background: str
    ink: str


@dataclass(frozen=True)
class ShownClass:
    """One class: its row of the confusion matrix (empty if that is a picture), its figures."""

    name: str
    cells: Sequence[ShownCell]
    figures: Mapping[str, float]


@dataclass(frozen=True)
class ShownMistake:
    """An image with a wrong prediction: a PNG file in base64."""

    png: str
    caption: str


@dataclass(frozen=True)
class ShownEvaluation:
    """An evaluation as the template shows it.

    Attributes:
        classes: In the order of their indices.
        mistakes: The most confident ones first.
        confusion_png: The confusion matrix as a PNG file in base64, where there are too many
            classes for a table.
    """

    classes: Sequence[ShownClass]
    mistakes: Sequence[ShownMistake]
    confusion_png: str | None


def shown_evaluation(outputs: TestOutputs, split: Split) -> ShownEvaluation:
    """Return what the report shows of an evaluation of a split."""
    names = split.class_names
    confusion = confusion_matrix(outputs.probabilities, outputs.labels)
    mistakes = list(_mistakes(outputs, split))
    rows: list[list[ShownCell]]
    if len(names) > MOST_COUNTS:
        rows, picture = [[] for _ in names], _base64(confusion_picture(confusion, names))
    else:
        rows, picture = list(_cells(confusion)), None
    classes = list(map(ShownClass, names, rows, per_class(confusion)))
    return ShownEvaluation(classes, mistakes, picture)


def _cells(confusion: Tensor) -> Iterator[list[ShownCell]]:
    """Yield the rows of the confusion matrix."""
    for counts, colours in zip(confusion.tolist(), shades(confusion).tolist(), strict=True):
        yield [
            ShownCell(count, f"rgb({red},{green},{blue})", "#fff" if red < 128 else "#222")
            for count, (red, green, blue) in zip(counts, colours, strict=True)
        ]


def _mistakes(outputs: TestOutputs, split: Split) -> Iterator[ShownMistake]:
    rows = confident_mistakes(outputs.probabilities, outputs.labels, SHOWN_MISTAKES)
    if not len(rows):
        return
    names, indices = split.class_names, outputs.indices[rows]
    confidences, predicted = outputs.probabilities[rows].max(1)
    for image, index, row, guess, confidence in zip(
        split.pixels(indices).numpy(), indices, rows, predicted, confidences, strict=True
    ):
        right, wrong = names[int(outputs.labels[row])], names[int(guess)]
        caption = f"{split.files[int(index)]}: {wrong} ({confidence:.1%}), is {right}"
        yield ShownMistake(_base64(image), caption)


def _base64(picture: Picture) -> str:
    return base64.b64encode(as_png(picture)).decode()


def curves(epochs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield charts of the loss, of each metric, of the learning rate and of the throughput.

    Args:
        epochs: The figures of each epoch, as in `History.epochs`.
    """
    metrics = {name: None for one in epochs for key in SPLITS for name in one[f"{key}_metrics"]}
    yield line_chart("loss", {key: _points(epochs, f"{key}_loss") for key in SPLITS})
    for name in metrics:
        lines = {key: _points(epochs, f"{key}_metrics", name) for key in SPLITS}
        yield line_chart(name, {key: points for key, points in lines.items() if points})
    yield line_chart("learning rate", {"": _points(epochs, "learning_rate")})
    yield line_chart("images/s", {"": _points(epochs, "images_per_s")})


def _points(epochs: Iterable[Mapping[str, Any]], *path: str) -> list[Point]:
    """Return the points of one figure over the epochs that have it."""
    points = []
    for one in epochs:
        value: Any = one
        for key in path:
            value = value.get(key) if value is not None else None
        if value is not None:
            points.append((float(one["epoch"]), float(value)))
    return points
