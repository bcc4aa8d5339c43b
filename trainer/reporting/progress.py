"""The progress bar: one line per epoch, with the loss and the images per second."""

from __future__ import annotations

import time
import warnings
from typing import Any, Literal

from trainer.observers import BatchReport, EpochReport, Observer, RunStarted

__all__ = ["ProgressBar"]

REFRESH_S = 0.1
QUIET_S = 1.0
"""Decoding that takes no longer than this shows no bar."""


class ProgressBar(Observer):
    """A tqdm bar: a widget in a notebook that can show one, otherwise text.

    Args:
        mode: "notebook" or "script", as the params say.
    """

    def __init__(self, mode: Literal["notebook", "script"] = "script") -> None:
        self._bar_class = _bar_class(mode)
        self._bar: Any = None
        self._shown_at = 0.0

    def on_decoding(self, done: int, total: int) -> None:
        """Show how many images are decoded, if that takes long."""
        if self._bar is None:
            self._bar = self._bar_class(
                total=total, desc="decoding", unit="images", leave=True, delay=QUIET_S
            )
        self._bar.update(done - self._bar.n)
        if done == total:
            self._end_line()

    def on_start(self, started: RunStarted) -> None:
        """Say that a run was resumed."""
        self._num_epochs = started.num_epochs
        if started.resumed:
            self._bar_class.write(f"resumed after epoch {started.first_epoch}")

    def on_batch(self, batch: BatchReport) -> None:
        """Move the bar by a batch's images; the figures change a few times a second."""
        if self._bar is None:
            self._bar = self._bar_class(
                total=batch.n_batches * batch.images,
                desc=f"epoch {batch.epoch + 1}/{self._num_epochs}",
                unit="images",
                leave=True,
            )
        self._bar.update(batch.images)
        if time.monotonic() - self._shown_at > REFRESH_S:
            self._bar.set_postfix_str(f"loss {batch.loss:.4f}", refresh=False)
            self._shown_at = time.monotonic()

    def on_epoch(self, report: EpochReport) -> None:
        """End the line with the epoch's figures."""
        if self._bar is None:
            return
        tested = {"test loss": report.test_loss} if report.test_loss is not None else {}
        figures = {"loss": report.train_loss, **tested, **report.test_metrics}
        self._bar.total = self._bar.n
        self._bar.set_postfix_str(
            ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        )
        self._end_line()

    def close(self) -> None:
        """Leave the last line as it is, also after an error."""
        self._end_line()

    def _end_line(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _bar_class(mode: str) -> Any:
    from tqdm import tqdm  # noqa: PLC0415 - kept off the path of runs without a bar

    if mode != "notebook":
        return tqdm
    with warnings.catch_warnings():
        # Without ipywidgets tqdm warns at import and fails at use; a text bar works everywhere.
        warnings.simplefilter("ignore")
        try:
            import ipywidgets  # type: ignore[import-not-found,import-untyped,unused-ignore] # noqa: F401, PLC0415
            from tqdm.notebook import tqdm as notebook_tqdm  # noqa: PLC0415
        except ImportError:
            return tqdm
    return notebook_tqdm
