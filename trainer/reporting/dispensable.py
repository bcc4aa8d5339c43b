"""An observer that a run can do without: a full disk must not end a training."""

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

logger = logging.getLogger(__name__)


class Dispensable(Observer):
    """Lets a run go on without an observer that cannot write its files (a full disk, say).

    Args:
        observer: Told of everything until its first `OSError`, which is logged as an error; it is
            closed then.
        name: What it writes, for the log.
    """

    def __init__(self, observer: Observer, name: str) -> None:
        self._observer: Observer | None = observer
        self._name = name

    def on_decoding(self, done: int, total: int) -> None:
        """Pass it on."""
        self._tell("on_decoding", done, total)

    def on_start(self, started: RunStarted) -> None:
        """Pass it on."""
        self._tell("on_start", started)

    def on_batch(self, batch: BatchReport) -> None:
        """Pass it on."""
        self._tell("on_batch", batch)

    def on_epoch(self, report: EpochReport) -> None:
        """Pass it on."""
        self._tell("on_epoch", report)

    def on_checkpoint(self, saved: CheckpointSaved) -> None:
        """Pass it on."""
        self._tell("on_checkpoint", saved)

    def on_finish(self, result: FitResult) -> None:
        """Pass it on."""
        self._tell("on_finish", result)

    def close(self) -> None:
        """Pass it on."""
        self._tell("close")

    def _tell(self, method: str, *told: object) -> None:
        observer = self._observer
        if observer is None:
            return
        try:
            getattr(observer, method)(*told)
        except OSError as error:
            self._observer = None
            logger.error("%s: not written any more, the training goes on: %s", self._name, error)  # noqa: TRY400 - the run goes on
            if method != "close":
                self._close(observer)

    def _close(self, observer: Observer) -> None:
        """Let it let go of its files and threads; it may stumble over the same disk again."""
        try:
            observer.close()
        except Exception as error:
            logger.warning("%s: not closed: %s", self._name, error)
