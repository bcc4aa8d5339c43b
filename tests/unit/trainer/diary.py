"""An observer that keeps all reports of a run."""

from typing import Any

from trainer import BatchReport, CheckpointSaved, EpochReport, FitResult, Observer, RunStarted


class Diary(Observer):
    """Writes down everything, and checks that what is said to be saved is there."""

    def __init__(self) -> None:
        self.pages: list[Any] = []

    def on_start(self, started: RunStarted) -> None:
        self.pages.append(started)

    def on_batch(self, batch: BatchReport) -> None:
        self.pages.append(batch)

    def on_epoch(self, report: EpochReport) -> None:
        self.pages.append(report)

    def on_checkpoint(self, saved: CheckpointSaved) -> None:
        assert saved.path.exists()
        self.pages.append(saved)

    def on_finish(self, result: FitResult) -> None:
        self.pages.append(result)

    def of(self, kind: type) -> list[Any]:
        return [page for page in self.pages if isinstance(page, kind)]
