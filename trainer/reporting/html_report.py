"""The report of a run: one HTML file that opens without a server, scripts or a network."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
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
from trainer.reporting.charts import line_chart
from trainer.reporting.history import History
from trainer.reporting.page import page
from trainer.reporting.pictures import MOST_COUNTS, as_png, confusion_picture, shades

NAME = "report.html"
SHOWN_MISTAKES = 24


class Report(Observer):
    """Writes `history.jsonl` an epoch and `report.html` when a run ends, finished or stopped.

    Args:
        logdir: Where both go.
        params: Shown.
        test_split: The images that mistakes are shown of.
    """

    def __init__(self, logdir: Path, params: Params, test_split: Split) -> None:
        self._path = logdir / NAME
        self._params = params
        self._split = test_split
        self._history = History(logdir)
        self._tested: TestOutputs | None = None

    def on_start(self, started: RunStarted) -> None:
        """Take over the epochs that are done already."""
        self._history.start(started.first_epoch)

    def on_epoch(self, report: EpochReport) -> None:
        """Write down the epoch's figures, and remember the evaluation."""
        self._tested = report.test_outputs or self._tested
        self._history.add(report)

    def on_finish(self, result: FitResult) -> None:
        """Write the report."""
        heading = f"{result.status.capitalize()} after epoch {result.epoch} of {result.num_epochs}"
        write_durably(self._path, page(heading, self._body(result)).encode())

    def _body(self, result: FitResult) -> Iterator[str]:
        yield table(("metric", "last evaluation"), _figures(result.metrics))
        yield "<h2>Curves</h2>"
        yield from curves(self._history.epochs)
        yield from self._evaluation()
        yield "<h2>Params</h2>"
        params = self._params.as_json().items()
        yield table(("key", "value"), ((key, _Code(json.dumps(value))) for key, value in params))
        yield "<h2>Versions</h2>"
        yield table(("what", "version"), versions().items())

    def _evaluation(self) -> Iterator[str]:
        tested, names = self._tested, self._split.class_names
        if tested is None:
            yield "<p>No evaluation with the built-in steps was made in this part of the run.</p>"
            return
        confusion = confusion_matrix(tested.probabilities, tested.labels)
        yield "<h2>Confusion matrix</h2>"
        yield "<p>Rows are the true classes, columns the predicted ones.</p>"
        yield _confusion(confusion, names)
        yield "<h2>Classes</h2>"
        yield _classes(confusion, names)
        yield "<h2>Most confident mistakes</h2>"
        yield from self._mistakes(tested)

    def _mistakes(self, tested: TestOutputs) -> Iterator[str]:
        rows = confident_mistakes(tested.probabilities, tested.labels, SHOWN_MISTAKES)
        if not len(rows):
            yield "<p>None.</p>"
            return
        names, indices = self._split.class_names, tested.indices[rows]
        confidences, predicted = tested.probabilities[rows].max(1)
        for image, index, row, guess, confidence in zip(
            self._split.pixels(indices).numpy(), indices, rows, predicted, confidences, strict=True
        ):
            right, wrong = names[int(tested.labels[row])], names[int(guess)]
            caption = f"{self._split.files[int(index)]}: {wrong} ({confidence:.1%}), is {right}"
            picture = _picture(as_png(image), caption)
            yield f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"


class _Code(str):
    """A table's cell that keeps its spaces."""

    __slots__ = ()


def curves(epochs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a chart of the loss, of each metric, of the learning rate and of the throughput."""
    metrics = {name: None for one in epochs for key in _SPLITS for name in one[f"{key}_metrics"]}
    yield line_chart("loss", {key: _line(epochs, f"{key}_loss") for key in _SPLITS})
    for name in metrics:
        lines = {key: _line(epochs, f"{key}_metrics", name) for key in _SPLITS}
        yield line_chart(name, {key: line for key, line in lines.items() if line})
    yield line_chart("learning rate", {"": _line(epochs, "learning_rate")})
    yield line_chart("images/s", {"": _line(epochs, "images_per_s")})


_SPLITS = ("train", "test")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of texts, escaped."""
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"


def _cell(text: str) -> str:
    inner = escape(text)
    return f"<td><pre>{inner}</pre></td>" if isinstance(text, _Code) else f"<td>{inner}</td>"


def _figures(metrics: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    return ((name, f"{value:.4f}") for name, value in metrics.items())


def _line(epochs: Iterable[Mapping[str, Any]], *path: str) -> list[tuple[float, float]]:
    """Return the points of one figure over the epochs that have it."""
    points = []
    for one in epochs:
        value: Any = one
        for key in path:
            value = value.get(key) if value is not None else None
        if value is not None:
            points.append((float(one["epoch"]), float(value)))
    return points


def _classes(confusion: Tensor, names: Sequence[str]) -> str:
    shares = ("precision", "recall", "f1")
    rows = (
        (name, *(f"{row[key]:.4f}" for key in shares), f"{row['images']:.0f}")
        for name, row in zip(names, per_class(confusion), strict=True)
    )
    return table(("class", "precision", "recall", "F1", "images"), rows)


def _confusion(confusion: Tensor, names: Sequence[str]) -> str:
    """Return the counts as a coloured table, or as a picture where that would be too wide."""
    if len(names) > MOST_COUNTS:
        return _picture(as_png(confusion_picture(confusion, names)), "confusion matrix")
    colours = shades(confusion).tolist()
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", *names))
    rows = []
    for name, counts, row in zip(names, confusion.tolist(), colours, strict=True):
        cells = "".join(
            f'<td style="background: rgb({red},{green},{blue}); '
            f'color: {"#fff" if red < 128 else "#222"}">{count or ""}</td>'
            for count, (red, green, blue) in zip(counts, row, strict=True)
        )
        rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return f'<table id="confusion"><tr>{head}</tr>{"".join(rows)}</table>'


def _picture(png: bytes, text: str) -> str:
    data = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(text)}">'
