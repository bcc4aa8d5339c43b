"""The table of the classes, at the end of `train` and `evaluate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click

from trainer.observers import EpochReport, Observer, TestOutputs

__all__ = ["LastEvaluation", "class_table"]


def class_table(per_class: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Yield the lines of a table of precision, recall, F1 and number of images by class name."""
    width = max(len("class"), *map(len, per_class))
    yield f"{'class':<{width}}  precision  recall      f1  images"
    for name, row in per_class.items():
        shares = f"{row['precision']:9.4f} {row['recall']:7.4f} {row['f1']:7.4f}"
        yield f"{name:<{width}}  {shares} {row['images']:7.0f}"


class LastEvaluation(Observer):
    """Remembers the last evaluation of a run, and prints its table."""

    def __init__(self) -> None:
        self._outputs: TestOutputs | None = None
        self._epoch = 0

    def on_epoch(self, report: EpochReport) -> None:
        """Remember the evaluation, if there was one."""
        if report.test_outputs is not None:
            self._outputs, self._epoch = report.test_outputs, report.epoch

    def print_table(self) -> None:
        """Print the table; print nothing if the run had no evaluation."""
        if self._outputs is None:
            return
        from trainer.metrics.figures import per_class  # noqa: PLC0415 - importing torch takes seconds
        from trainer.metrics.meters import confusion_matrix  # noqa: PLC0415

        confusion = confusion_matrix(self._outputs.probabilities, self._outputs.labels)
        rows = zip(self._outputs.class_names, per_class(confusion), strict=True)
        click.echo(f"\nevaluation after epoch {self._epoch}:")
        click.echo("\n".join(class_table(dict(rows))) + "\n")
