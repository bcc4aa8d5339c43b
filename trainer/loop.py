"""The training loop: epochs, batches, evaluation, checkpoints, in the order they happen in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.checkpoint_folder import CheckpointFolder
from trainer.dataset import Batches
from trainer.distributed import Group
from trainer.ema import Ema
from trainer.guard import Guard
from trainer.memory import keep_freed
from trainer.meters import Averages, Collection
from trainer.observers import BatchReport, EpochReport, FitResult, Observer, Started, Tested
from trainer.params import Params
from trainer.schedules import Schedules
from trainer.state import content_of
from trainer.steps import TestStep, TrainStep
from trainer.watch import Watch


@dataclass
class Position:
    """Where a run is: `epoch` epochs are done and `batch` batches of the next one."""

    epoch: int = 0
    batch: int = 0
    step: int = 0


@dataclass
class Run:
    """Everything that a run needs, put together by `trainer.assembly`.

    Attributes:
        model: What is saved.
        net: What the steps get: the model, or what wraps it.
        ema: The averaged weights, when there are any.
        best: Decides which checkpoint is the best.
        stopping: Decides when there is nothing more to expect.
        passed_on: Keyword arguments for the steps.
    """

    params: Params
    model: nn.Module
    net: nn.Module
    optim: Optimizer
    schedules: Schedules
    guard: Guard
    ema: Ema | None
    best: Watch
    stopping: Watch
    train_step: TrainStep
    test_step: TestStep
    train_batches: Batches
    test_batches: Batches
    checkpoints: CheckpointFolder
    observers: Sequence[Observer]
    should_stop: Callable[[], bool]
    group: Group
    passed_on: dict[str, Any] = field(default_factory=dict)
    position: Position = field(default_factory=Position)
    averages: Averages = field(default_factory=Averages)
    metrics: dict[str, float] = field(default_factory=dict)
    resumed: bool = False
    tested: Tested | None = None

    def __post_init__(self) -> None:
        """Find the metric collections among what is passed on to the steps."""
        self.train_collection = Collection(self.passed_on.get("train_torchmetrics"))
        self.test_collection = Collection(self.passed_on.get("test_torchmetrics"))

    def go(self) -> FitResult:
        """Train until the last epoch is done, nothing more is to be expected, or asked to stop."""
        keep_freed()
        self._tell_start()
        while self.position.epoch < self.params.num_epochs and not self.stopping.is_over:
            started = time.perf_counter()
            images_before = self.averages.images
            if not self._train_epoch():
                return self._stop()
            seconds = time.perf_counter() - started
            images = (self.averages.images - images_before) * self.group.size
            trained = self._figures(self.averages, self.train_collection)
            tested = self._evaluate() if self._is_due(self.params.eval_freq) else {}
            learning_rate = self.schedules.learning_rate
            self._finish_epoch(tested)
            report = EpochReport(
                epoch=self.position.epoch,
                num_epochs=self.params.num_epochs,
                train_loss=trained.pop("loss"),
                train_metrics=trained,
                test_loss=tested.get("loss"),
                test_metrics={name: value for name, value in tested.items() if name != "loss"},
                learning_rate=learning_rate,
                images_per_s=images / seconds,
                seconds=time.perf_counter() - started,
                tested=self.tested if tested else None,
            )
            for observer in self.observers:
                observer.on_epoch(report)
            if tested:
                self.stopping.sees_best(tested)
            self._save_epoch(is_best=bool(tested) and self.best.sees_best(tested))
        return self._finish("finished")

    def _train_epoch(self) -> bool:
        """Train the rest of the epoch; return False when asked to stop before its end."""
        at, group = self.position, self.group
        self.net.train()
        for batch in self.train_batches.epoch(at.epoch, at.batch, group.rank, group.size):
            if group.any(self.should_stop()):
                return False
            group.share = batch.share
            loss, metrics = self.train_step(
                batch.x, batch.y, self.net, self.optim, **self.passed_on
            )
            if self.guard.passes(loss):
                self.averages.add(len(batch.y) if batch.share else 0, loss, metrics)
            else:
                self.guard.report(loss, self._files(batch.indices), self.checkpoints.last_written)
            self.schedules.after_batch()
            at.batch += 1
            at.step += 1
            self._tell_batch(float(loss), batch.x)
        return True

    def _evaluate(self) -> dict[str, float]:
        """Test on the whole test split; return the loss and metrics by name.

        With averaged weights the figures are theirs, and those of the plain ones are `raw_...`.
        """
        if self.ema is None:
            return self._test()
        raw = self._test()
        with self.ema.swapped_in():
            return {**self._test(), **{f"raw_{name}": value for name, value in raw.items()}}

    @torch.no_grad()
    def _test(self) -> dict[str, float]:
        self.net.eval()
        averages = Averages()
        for batch in self.test_batches.every(self.group.rank, self.group.size):
            loss, metrics = self.test_step(batch.x, batch.y, self.net, **self.passed_on)
            averages.add(len(batch.y), loss, metrics)
        each_step = self.params.eval_metric_compute_freq == "step"
        return self._figures(averages, self.test_collection, prefer_steps=each_step)

    def _figures(
        self, averages: Averages, collection: Collection, *, prefer_steps: bool = False
    ) -> dict[str, float]:
        """Return the epoch's loss and metrics: the collection's, else the means of the steps'."""
        means = averages.of_all(self.group).means()
        is_filled = self.group.any(collection.is_filled)
        if is_filled and (len(means) == 1 or not prefer_steps):
            means = {"loss": means["loss"], **collection.compute(self.group)}
            self.tested = self._scores(collection)
        collection.reset()
        return means

    def _scores(self, collection: Collection) -> Tested | None:
        """Return what each test image got, where the collection has kept it."""
        if (scores := collection.scores()) is None:
            return None
        indices = self.test_batches.told_by_all(self.group.size)
        return Tested(*scores, indices, self.test_batches.split.class_names)

    def _is_due(self, every: int) -> bool:
        """Tell whether the epoch that is being finished is one of every so many, or the last."""
        number = self.position.epoch + 1
        return number % every == 0 or number == self.params.num_epochs

    def _finish_epoch(self, tested: dict[str, float]) -> None:
        self.schedules.after_epoch(tested)
        self.metrics = tested or self.metrics
        self.averages.reset()
        self.position.epoch += 1
        self.position.batch = 0

    def _save_epoch(self, *, is_best: bool) -> None:
        done = self.position.epoch
        is_last = done == self.params.num_epochs or self.stopping.is_over
        numbered = is_last or done % self.params.save_freq == 0
        if numbered or is_best:
            self._save(numbered=numbered, is_best=is_best)
        self._tell_saved()

    def _save(self, *, numbered: bool, is_best: bool) -> None:
        if self.group.is_first:
            self.checkpoints.save(content_of(self), numbered=numbered, is_best=is_best)

    def _stop(self) -> FitResult:
        self._save(numbered=True, is_best=False)
        return self._finish("stopped")

    def _finish(self, status: Literal["finished", "stopped"]) -> FitResult:
        self._tell_saved(wait=True)
        result = FitResult(
            status=status,
            epoch=self.position.epoch,
            num_epochs=self.params.num_epochs,
            best=self.checkpoints.best,
            last=self.checkpoints.last,
            metrics=self.metrics,
        )
        for observer in self.observers:
            observer.on_finish(result)
        return result

    def _files(self, indices: Tensor) -> list[str]:
        names = self.train_batches.split.files
        return [names[index] for index in indices]

    def _tell_start(self) -> None:
        started = Started(
            num_epochs=self.params.num_epochs,
            first_epoch=self.position.epoch,
            n_train=len(self.train_batches.split),
            n_test=len(self.test_batches.split),
            resumed=self.resumed,
            n_batches=len(self.train_batches),
        )
        for observer in self.observers:
            observer.on_start(started)

    def _tell_batch(self, loss: float, x: Tensor) -> None:
        at = self.position
        total = len(self.train_batches)
        report = BatchReport(at.epoch, at.batch - 1, total, at.step, loss, len(x), x)
        for observer in self.observers:
            observer.on_batch(report)
        self._tell_saved()

    def _tell_saved(self, *, wait: bool = False) -> None:
        for saved in self.checkpoints.finished(wait=wait):
            for observer in self.observers:
                observer.on_checkpoint(saved)
