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
from trainer.checkpoints import FORMAT, Checkpoint, versions
from trainer.dataset import Batches
from trainer.meters import Averages, Collection
from trainer.observers import BatchReport, EpochReport, FitResult, Observer, Started
from trainer.params import Params
from trainer.schedules import Schedules
from trainer.seeds import random_states, restore_random_states
from trainer.steps import TestStep, TrainStep


@dataclass
class Position:
    """Where a run is: `epoch` epochs are done and `batch` batches of the next one."""

    epoch: int = 0
    batch: int = 0
    step: int = 0


@dataclass
class Best:
    """The best evaluation so far."""

    value: float | None = None
    epoch: int = 0


@dataclass
class Run:
    """Everything that a run needs, put together by `trainer.runs`.

    Attributes:
        model: What is saved.
        net: What the steps get: the model, or what wraps it.
        passed_on: Keyword arguments for the steps.
    """

    params: Params
    model: nn.Module
    net: nn.Module
    optim: Optimizer
    schedules: Schedules
    train_step: TrainStep
    test_step: TestStep
    train_batches: Batches
    test_batches: Batches
    checkpoints: CheckpointFolder
    observers: Sequence[Observer]
    should_stop: Callable[[], bool]
    passed_on: dict[str, Any] = field(default_factory=dict)
    position: Position = field(default_factory=Position)
    best: Best = field(default_factory=Best)
    averages: Averages = field(default_factory=Averages)
    metrics: dict[str, float] = field(default_factory=dict)
    resumed: bool = False

    def __post_init__(self) -> None:
        """Find the metric collections among what is passed on to the steps."""
        self.train_collection = Collection(self.passed_on.get("train_torchmetrics"))
        self.test_collection = Collection(self.passed_on.get("test_torchmetrics"))

    def go(self) -> FitResult:
        """Train until the last epoch is done or the run is asked to stop."""
        self._tell_start()
        while self.position.epoch < self.params.num_epochs:
            started = time.perf_counter()
            seen_before = self.averages.images
            if not self._train_epoch():
                return self._stop()
            seconds = time.perf_counter() - started
            trained = self._figures(self.averages, self.train_collection)
            tested = self._evaluate() if self._is_due(self.params.eval_freq) else {}
            learning_rate = self.schedules.learning_rate
            images_per_s = (self.averages.images - seen_before) / seconds
            self._finish_epoch(tested)
            report = EpochReport(
                epoch=self.position.epoch,
                num_epochs=self.params.num_epochs,
                train_loss=trained.pop("loss"),
                train_metrics=trained,
                test_loss=tested.get("loss"),
                test_metrics={name: value for name, value in tested.items() if name != "loss"},
                learning_rate=learning_rate,
                images_per_s=images_per_s,
                seconds=time.perf_counter() - started,
            )
            for observer in self.observers:
                observer.on_epoch(report)
            self._save_epoch(is_best=self._is_best(tested))
        return self._finish("finished")

    def _train_epoch(self) -> bool:
        """Train the rest of the epoch; return False when asked to stop before its end."""
        at = self.position
        self.net.train()
        for batch in self.train_batches.epoch(at.epoch, at.batch):
            if self.should_stop():
                return False
            loss, metrics = self.train_step(
                batch.x, batch.y, self.net, self.optim, **self.passed_on
            )
            self.averages.add(len(batch.y), loss, metrics)
            at.batch += 1
            at.step += 1
            self._tell_batch(float(loss), batch.x)
        return True

    @torch.no_grad()
    def _evaluate(self) -> dict[str, float]:
        """Test on the whole test split; return the loss and metrics by name."""
        self.net.eval()
        averages = Averages()
        for batch in self.test_batches.epoch(0):
            loss, metrics = self.test_step(batch.x, batch.y, self.net, **self.passed_on)
            averages.add(len(batch.y), loss, metrics)
        each_step = self.params.eval_metric_compute_freq == "step"
        return self._figures(averages, self.test_collection, prefer_steps=each_step)

    def _figures(
        self, averages: Averages, collection: Collection, *, prefer_steps: bool = False
    ) -> dict[str, float]:
        """Return the epoch's loss and metrics: the collection's, else the means of the steps'."""
        means = averages.means()
        if collection.is_filled and (len(means) == 1 or not prefer_steps):
            means = {"loss": means["loss"], **collection.compute()}
        collection.reset()
        return means

    def _is_due(self, every: int) -> bool:
        """Tell whether the epoch that is being finished is one of every so many, or the last."""
        number = self.position.epoch + 1
        return number % every == 0 or number == self.params.num_epochs

    def _finish_epoch(self, tested: dict[str, float]) -> None:
        self.schedules.after_epoch(tested.get("loss"))
        self.metrics = tested or self.metrics
        self.averages.reset()
        self.position.epoch += 1
        self.position.batch = 0

    def _is_best(self, tested: dict[str, float]) -> bool:
        value = tested.get("loss")
        if value is None or (self.best.value is not None and value >= self.best.value):
            return False
        self.best = Best(value, self.position.epoch)
        return True

    def _save_epoch(self, *, is_best: bool) -> None:
        done = self.position.epoch
        numbered = done % self.params.save_freq == 0 or done == self.params.num_epochs
        if numbered or is_best:
            self.checkpoints.save(self.content(), numbered=numbered, is_best=is_best)
        self._tell_saved()

    def _stop(self) -> FitResult:
        self.checkpoints.save(self.content(), numbered=True, is_best=False)
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

    def content(self) -> dict[str, Any]:
        """Return everything that a checkpoint holds: to go on bit for bit, and to serve."""
        return {
            "format": FORMAT,
            "params": self.params.as_json(),
            "class_names": list(self.train_batches.split.class_names),
            "metrics": dict(self.metrics),
            "versions": versions(),
            "model": self.model.state_dict(),
            "optimiser": self.optim.state_dict(),
            "schedules": self.schedules.state_dict(),
            "position": vars(self.position).copy(),
            "best": vars(self.best).copy(),
            "averages": self.averages.state_dict(),
            "train_collection": self.train_collection.state_dict(),
            "random_states": random_states(),
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put back what `content` returned when the checkpoint was written."""
        content = checkpoint.content
        self.model.load_state_dict(content["model"])
        self.optim.load_state_dict(content["optimiser"])
        self.schedules.load_state_dict(content["schedules"])
        self.position = Position(**content["position"])
        self.best = Best(**content["best"])
        self.averages.load_state_dict(content["averages"])
        self.train_collection.load_state_dict(content["train_collection"])
        self.metrics = dict(content["metrics"])
        restore_random_states(content["random_states"])
        self.resumed = True
