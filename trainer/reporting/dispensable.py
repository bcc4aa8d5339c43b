"""An observer that a run can continue without: a full disk must not end a training."""

from __future__ import annotations

import logging

from trainer.observers import (
    BatchReport,
    CheckpointSaved,
    EpochReport,
    FitResult,
    Observer,
    RunStarted,
)

__all__ = ["Dispensable"]

logger = logging.getLogger(__name__)


class Dispensable(Observer):
    """Lets a run continue when an observer cannot write its files (a full disk, say).

    Args:
        observer: It gets every report until its first `OSError`, which is logged as an error; then
            it is closed.
        name: Name of what it writes, for the log.
    """

    def __init__(self, observer: Observer, name: str) -> None:
        self._observer: Observer | None = observer
        self._name = name

    def on_decoding(self, done: int, total: int) -> None:
        """Pass it on."""
        self._report("on_decoding", done, total)

    def on_start(self, started: RunStarted) -> None:
        """Pass it on."""
        self._report("on_start", started)

    def on_batch(self, batch: BatchReport) -> None:
        """Pass it on."""
        self._report("on_batch", batch)

    def on_epoch(self, report: EpochReport) -> None:
        """Pass it on."""
        self._report("on_epoch", report)

    def on_checkpoint(self, saved: CheckpointSaved) -> None:
        """Pass it on."""
        self._report("on_checkpoint", saved)

    def on_finish(self, result: FitResult) -> None:
        """Pass it on."""
        self._report("on_finish", result)

    def close(self) -> None:
        """Pass it on."""
        self._report("close")

    def _report(self, method: str, *reported: object) -> None:
        observer = self._observer
        if observer is None:
            return
        try:
            getattr(observer, method)(*reported)
        except OSError as error:
            self._observer = None
            logger.error("%s: not written any more, the training goes on: %s", self._name, error)  # noqa: TRY400 - the run goes on
            if method != "close":
                self._close(observer)

    def _close(self, observer: Observer) -> None:
        """Let it release its files and threads; it may fail because of the same disk again."""
        try:
            observer.close()
        except Exception as error:
            logger.warning("%s: not closed: %s", self._name, error)
