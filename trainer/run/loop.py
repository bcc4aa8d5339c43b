"""The training loop: epochs, batches, evaluation, checkpoints, in the order they happen in."""

from __future__ import annotations

import time
from typing import Literal

import torch
from torch import Tensor

from trainer.machine.memory import keep_freed_memory
from trainer.metrics.epoch import Averages, Collection
from trainer.observers import BatchReport, EpochReport, FitResult, RunStarted, TestOutputs
from trainer.run.state import Run, content_of


def train_loop(run: Run) -> FitResult:
    """Train until the last epoch is done, nothing more is to be expected, or asked to stop."""
    keep_freed_memory()
    _tell_start(run)
    while run.position.epoch < run.params.num_epochs and not run.stopping.is_over:
        started = time.perf_counter()
        images_before = run.averages.images
        if not _train_epoch(run):
            return _stop(run)
        seconds = time.perf_counter() - started
        images = (run.averages.images - images_before) * run.group.size
        trained = _figures(run, run.averages, run.train_collection)
        tested = _evaluate(run) if _is_due(run, run.params.eval_freq) else {}
        learning_rate = run.schedules.learning_rate
        _finish_epoch(run, tested)
        report = EpochReport(
            epoch=run.position.epoch,
            num_epochs=run.params.num_epochs,
            train_loss=trained.pop("loss"),
            train_metrics=trained,
            test_loss=tested.get("loss"),
            test_metrics={name: value for name, value in tested.items() if name != "loss"},
            learning_rate=learning_rate,
            images_per_s=images / seconds,
            seconds=time.perf_counter() - started,
            test_outputs=run.test_outputs if tested else None,
        )
        for observer in run.observers:
            observer.on_epoch(report)
        if tested:
            run.stopping.update(tested)
        _save_epoch(run, is_best=bool(tested) and run.best.update(tested))
    return _finish(run, "finished")


def _train_epoch(run: Run) -> bool:
    """Train the rest of the epoch; return False when asked to stop before its end."""
    at, group = run.position, run.group
    run.net.train()
    for batch in run.train_batches.epoch(at.epoch, at.batch, group.rank, group.size):
        if group.any(run.should_stop()):
            return False
        group.share = batch.share
        loss, metrics = run.train_step(batch.x, batch.y, run.net, run.optim, **run.step_kwargs)
        if run.guard.accept_step(loss):
            run.averages.add(len(batch.y) if batch.share else 0, loss, metrics)
        else:
            run.guard.report_skipped(loss, _files(run, batch.indices), run.checkpoints.last_written)
        run.schedules.after_batch()
        at.batch += 1
        at.step += 1
        _tell_batch(run, float(loss), batch.x)
    return True


def _evaluate(run: Run) -> dict[str, float]:
    """Test on the whole test split; return the loss and metrics by name.

    With averaged weights the figures are theirs, and those of the plain ones are `raw_...`.
    """
    if run.ema is None:
        return _test(run)
    raw = _test(run)
    with run.ema.swapped_in():
        return {**_test(run), **{f"raw_{name}": value for name, value in raw.items()}}


@torch.no_grad()
def _test(run: Run) -> dict[str, float]:
    run.net.eval()
    averages = Averages()
    for batch in run.test_batches.every(run.group.rank, run.group.size):
        loss, metrics = run.test_step(batch.x, batch.y, run.net, **run.step_kwargs)
        averages.add(len(batch.y), loss, metrics)
    each_step = run.params.eval_metric_compute_freq == "step"
    return _figures(run, averages, run.test_collection, prefer_steps=each_step)


def _figures(
    run: Run, averages: Averages, collection: Collection, *, prefer_steps: bool = False
) -> dict[str, float]:
    """Return the epoch's loss and metrics: the collection's, else the means of the steps'."""
    means = averages.of_all(run.group).means()
    is_filled = run.group.any(collection.is_filled)
    if is_filled and (len(means) == 1 or not prefer_steps):
        means = {"loss": means["loss"], **collection.compute(run.group)}
        run.test_outputs = _scores(run, collection)
    collection.reset()
    return means


def _scores(run: Run, collection: Collection) -> TestOutputs | None:
    """Return what each test image got, where the collection has kept it."""
    if (scores := collection.scores()) is None:
        return None
    indices = run.test_batches.told_by_all(run.group.size)
    return TestOutputs(*scores, indices, run.test_batches.split.class_names)


def _is_due(run: Run, every: int) -> bool:
    """Tell whether the epoch that is being finished is one of every so many, or the last."""
    number = run.position.epoch + 1
    return number % every == 0 or number == run.params.num_epochs


def _finish_epoch(run: Run, tested: dict[str, float]) -> None:
    run.schedules.after_epoch(tested)
    run.metrics = tested or run.metrics
    run.averages.reset()
    run.position.epoch += 1
    run.position.batch = 0


def _save_epoch(run: Run, *, is_best: bool) -> None:
    done = run.position.epoch
    is_last = done == run.params.num_epochs or run.stopping.is_over
    numbered = is_last or done % run.params.save_freq == 0
    if numbered or is_best:
        _save(run, numbered=numbered, is_best=is_best)
    _tell_saved(run)


def _save(run: Run, *, numbered: bool, is_best: bool) -> None:
    if run.group.is_first:
        run.checkpoints.save(content_of(run), numbered=numbered, is_best=is_best)


def _stop(run: Run) -> FitResult:
    _save(run, numbered=True, is_best=False)
    return _finish(run, "stopped")


def _finish(run: Run, status: Literal["finished", "stopped"]) -> FitResult:
    _tell_saved(run, wait=True)
    result = FitResult(
        status=status,
        epoch=run.position.epoch,
        num_epochs=run.params.num_epochs,
        best=run.checkpoints.best,
        last=run.checkpoints.last,
        metrics=run.metrics,
    )
    for observer in run.observers:
        observer.on_finish(result)
    return result


def _files(run: Run, indices: Tensor) -> list[str]:
    names = run.train_batches.split.files
    return [names[index] for index in indices]


def _tell_start(run: Run) -> None:
    started = RunStarted(
        num_epochs=run.params.num_epochs,
        first_epoch=run.position.epoch,
        n_train=len(run.train_batches.split),
        n_test=len(run.test_batches.split),
        resumed=run.resumed,
        n_batches=len(run.train_batches),
    )
    for observer in run.observers:
        observer.on_start(started)


def _tell_batch(run: Run, loss: float, x: Tensor) -> None:
    at = run.position
    total = len(run.train_batches)
    report = BatchReport(at.epoch, at.batch - 1, total, at.step, loss, len(x), x)
    for observer in run.observers:
        observer.on_batch(report)
    _tell_saved(run)


def _tell_saved(run: Run, *, wait: bool = False) -> None:
    for saved in run.checkpoints.finished(wait=wait):
        for observer in run.observers:
            observer.on_checkpoint(saved)
