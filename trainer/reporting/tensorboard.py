"""The event files that TensorBoard shows."""

from __future__ import annotations

import json
import logging
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from trainer.data.splits import Split
from trainer.metrics.figures import confident_mistakes
from trainer.metrics.meters import confusion_matrix
from trainer.observers import BatchReport, EpochReport, FitResult, Observer, RunStarted, TestOutputs
from trainer.params.params import Params
from trainer.reporting.pictures import captioned, confusion_picture

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardWriter"]

logger = logging.getLogger(__name__)

SHOWN_IMAGES = 32
SHOWN_MISTAKES = 25
MOST_CURVES = 100
EVERY_STEPS = 10
PICTURES_EVERY_S = 30.0


class TensorBoardWriter(Observer):
    """Writes the event files of a run.

    Loss, metrics, learning rate and throughput are written when they are known, the first images as
    the net gets them at the beginning, the net's graph at the end. The confusion matrix, the most
    confident mistakes and a PR curve per class are drawn at most every 30 seconds, and at the end:
    drawing must not slow the training down.

    Args:
        logdir: The folder of the event files.
        params: Shown in the table of hyperparameters; they also say whether to write histograms.
        test_split: The images among which mistakes are shown.
        model: The model whose graph and weights are shown.
    """

    def __init__(self, logdir: Path, params: Params, test_split: Split, model: nn.Module) -> None:
        self._logdir = logdir
        self._params = params
        self._split = test_split
        self._model = model
        self._sample: Tensor | None = None
        self._undrawn: tuple[TestOutputs, int] | None = None
        self._drawn_at = -PICTURES_EVERY_S
        self._opened: SummaryWriter | None = None

    @property
    def _writer(self) -> Any:
        assert self._opened is not None
        return self._opened

    def on_start(self, started: RunStarted) -> None:  # noqa: ARG002 - an observer's signature
        """Open the event file."""
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - import takes a while

        self._logdir.mkdir(parents=True, exist_ok=True)
        self._opened = SummaryWriter(str(self._logdir))

    def on_batch(self, batch: BatchReport) -> None:
        """Write the loss of every tenth step, and the first batch's images."""
        if self._sample is None:
            self._sample = batch.x[:1].clone()
            self._writer.add_images("images/train", _viewable(batch.x[:SHOWN_IMAGES]), batch.step)
        if batch.step % EVERY_STEPS == 0:
            self._writer.add_scalar("loss/step", batch.loss, batch.step)

    def on_epoch(self, report: EpochReport) -> None:
        """Write the epoch's figures, and the pictures when they are due."""
        scalars = {
            "loss/train": report.train_loss,
            "learning_rate": report.learning_rate,
            "images_per_s": report.images_per_s,
            **{f"{name}/train": value for name, value in report.train_metrics.items()},
            **{f"{name}/test": value for name, value in report.test_metrics.items()},
        }
        if report.test_loss is not None:
            scalars["loss/test"] = report.test_loss
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, report.epoch)
        if self._params.histograms:
            self._add_histograms(report.epoch)
        if report.test_outputs is not None:
            self._undrawn = report.test_outputs, report.epoch
        if time.monotonic() - self._drawn_at > PICTURES_EVERY_S:
            self._draw()

    def on_finish(self, result: FitResult) -> None:
        """Write the last evaluation's pictures, the graph, and the row of hyperparameters."""
        self._draw()
        self._add_graph()
        self._add_hyperparameters(result.metrics)

    def close(self) -> None:
        """Write the rest and close the file."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _draw(self) -> None:
        """Write the pictures and curves of the newest evaluation, unless they are written."""
        if self._undrawn is None:
            return
        (tested, epoch), self._undrawn = self._undrawn, None
        names = self._split.class_names
        confusion = confusion_matrix(tested.probabilities, tested.labels)
        self._writer.add_image(
            "confusion", confusion_picture(confusion, names), epoch, dataformats="HWC"
        )
        self._add_mistakes(tested, epoch)
        for index, name in enumerate(names[:MOST_CURVES]):
            self._writer.add_pr_curve(
                f"precision_recall/{name}",
                tested.labels == index,
                tested.probabilities[:, index],
                epoch,
            )
        self._drawn_at = time.monotonic()

    def _add_mistakes(self, tested: TestOutputs, epoch: int) -> None:
        rows = confident_mistakes(tested.probabilities, tested.labels, SHOWN_MISTAKES)
        if not len(rows):
            return
        names = self._split.class_names
        captions = [
            f"{names[int(predicted)][:8]}, is {names[int(label)][:8]}"
            for label, predicted in zip(
                tested.labels[rows], tested.probabilities[rows].argmax(1), strict=True
            )
        ]
        pixels = self._split.pixels(tested.indices[rows]).numpy()
        self._writer.add_image("mistakes", captioned(pixels, captions), epoch, dataformats="HWC")

    def _add_graph(self) -> None:
        """Write the net's graph; a graph that cannot be traced must not end a run."""
        if self._sample is None:
            return
        was_training = self._model.training
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # SummaryWriter traces, which torch has deprecated
                self._writer.add_graph(self._model.eval(), self._sample)
        except OSError:
            raise
        except Exception as error:  # whatever a user's own model does
            logger.warning("TensorBoard gets no graph of the model: %s", error)
        finally:
            self._model.train(was_training)

    def _add_histograms(self, epoch: int) -> None:
        for name, weights in self._model.named_parameters():
            self._writer.add_histogram(f"weights/{name}", weights, epoch)
            if weights.grad is not None:
                self._writer.add_histogram(f"gradients/{name}", weights.grad, epoch)

    def _add_hyperparameters(self, metrics: dict[str, float]) -> None:
        """Write a row of the table of hyperparameters into this run's own event file.

        `SummaryWriter.add_hparams` would open a run of its own below the folder.
        """
        from torch.utils.tensorboard.summary import hparams  # noqa: PLC0415

        plain = {
            key: value if isinstance(value, bool | int | float | str) else json.dumps(value)
            for key, value in self._params.as_json().items()
            if key != "net_arch" and value is not None
        }
        shown = {_tag(name): value for name, value in metrics.items()}
        for summary in hparams(plain, shown):  # type: ignore[no-untyped-call]
            self._writer.file_writer.add_summary(summary)


def _tag(metric: str) -> str:
    return f"{metric}/test"


def _viewable(x: Tensor) -> Tensor:
    """Return images scaled to 0..1 with one or three channels, so that they can be drawn."""
    x = x.detach().float().cpu()
    x = x if x.shape[1] in {1, 3} else x[:, :1]
    low, high = x.amin(), x.amax()
    return (x - low) / (high - low).clamp(min=1e-6)
