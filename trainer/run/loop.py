"""The training loop: epochs, batches, evaluation and checkpoints, in the order they happen in.

A training step has three parts, and they are not in this file:

- `run.steps.train` computes loss and gradients and calls the optimiser. The built-in steps are in
  `trainer.run.steps`; `train` takes the user's own.
- `StepGuard` (`trainer.run.step_guard`), a hook before the optimiser's step, clips gradients and
  skips a step that is not finite.
- `Ema` (`trainer.net.averaged_weights`), a hook after the optimiser's step, averages the weights.
"""

from __future__ import annotations

import time
from typing import Literal

import torch
from torch import Tensor

from trainer.machine.memory import keep_freed_memory
from trainer.metrics.epoch import Averages, EpochMetric
from trainer.observers import BatchReport, EpochReport, FitResult, RunStarted, TestOutputs
from trainer.run.state import Run, checkpoint_content

__all__ = ["train_loop"]

Figures = dict[str, float]
"""Loss and metrics by name; `loss` is always among them."""


def train_loop(run: Run) -> FitResult:
    """Train until the last epoch, until patience runs out, or until asked to stop."""
    keep_freed_memory()
    _report_start(run)
    while run.state.epoch < run.params.num_epochs and not run.stopping.is_out_of_patience:
        started_at = time.perf_counter()
        images_before = run.state.averages.images
        if not _train_epoch(run):
            return _stop(run)
        seconds = time.perf_counter() - started_at
        images = (run.state.averages.images - images_before) * run.group.size
        trained = _figures(run, run.state.averages, run.train_metrics)
        tested = _evaluate(run) if _is_due(run, run.params.eval_freq) else {}
        learning_rate = run.schedules.learning_rate
        _finish_epoch(run, tested)
        report = EpochReport(
            epoch=run.state.epoch,
            num_epochs=run.params.num_epochs,
            train_loss=trained.pop("loss"),
            train_metrics=trained,
            test_loss=tested.get("loss"),
            test_metrics={name: value for name, value in tested.items() if name != "loss"},
            learning_rate=learning_rate,
            images_per_s=images / seconds,
            seconds=time.perf_counter() - started_at,
            test_outputs=run.state.test_outputs if tested else None,
        )
        for observer in run.observers:
            observer.on_epoch(report)
        if tested:
            run.stopping.update(tested)
        _save_epoch(run, is_best=bool(tested) and run.best.update(tested))
    return _finish(run, "finished")


def _train_epoch(run: Run) -> bool:
    """Train the rest of the epoch; return False when asked to stop before its end."""
    state, group, learner, steps = run.state, run.group, run.learner, run.steps
    learner.net.train()
    batches = run.train_batches
    for batch in batches.training_batches(state.epoch, state.batch, group.rank, group.size):
        if group.any(run.should_stop()):
            return False
        group.share = batch.share
        loss, metrics = steps.train(batch.x, batch.y, learner.net, learner.optim, **steps.kwargs)
        if learner.guard.accept_step(loss):
            state.averages.add(len(batch.y) if batch.share else 0, loss, metrics)
        else:
            files = _files(run, batch.indices)
            learner.guard.report_skipped(loss, files, run.checkpoints.last_written)
        run.schedules.after_batch()
        state.batch += 1
        state.step += 1
        _report_batch(run, float(loss), batch.x)
    return True


def _evaluate(run: Run) -> Figures:
    """Test on the whole test split.

    With averaged weights the figures are theirs, and those of the plain weights are `raw_...`.
    """
    if run.ema is None:
        return _test(run)
    raw = _test(run)
    with run.ema.averaged_weights():
        return {**_test(run), **{f"raw_{name}": value for name, value in raw.items()}}


@torch.no_grad()
def _test(run: Run) -> Figures:
    net, steps = run.learner.net, run.steps
    net.eval()
    averages = Averages()
    for batch in run.test_batches.evaluation_batches(run.group.rank, run.group.size):
        loss, metrics = steps.test(batch.x, batch.y, net, **steps.kwargs)
        averages.add(len(batch.y), loss, metrics)
    each_step = run.params.eval_metric_compute_freq == "step"
    return _figures(run, averages, run.test_metrics, prefer_steps=each_step)


def _figures(
    run: Run, averages: Averages, metric: EpochMetric, *, prefer_steps: bool = False
) -> Figures:
    """Return the epoch's loss and metrics: the metric's, else the means of the steps'."""
    means = averages.of_all(run.group).means()
    is_filled = run.group.any(metric.is_filled)
    if is_filled and (len(means) == 1 or not prefer_steps):
        means = {"loss": means["loss"], **metric.compute(run.group)}
        run.state.test_outputs = _outputs(run, metric)
    metric.reset()
    return means


def _outputs(run: Run, metric: EpochMetric) -> TestOutputs | None:
    """Return the probabilities of each test image, where the metric has kept them."""
    if (scores := metric.scores()) is None:
        return None
    indices = run.test_batches.indices_by_rank(run.group.size)
    return TestOutputs(*scores, indices, run.test_batches.split.class_names)


def _is_due(run: Run, every: int) -> bool:
    """Return True every `every` epochs, and for the last epoch."""
    number = run.state.epoch + 1
    return number % every == 0 or number == run.params.num_epochs


def _finish_epoch(run: Run, tested: Figures) -> None:
    run.schedules.after_epoch(tested)
    run.state.metrics = tested or run.state.metrics
    run.state.averages.reset()
    run.state.epoch += 1
    run.state.batch = 0


def _save_epoch(run: Run, *, is_best: bool) -> None:
    epochs = run.state.epoch
    is_last = epochs == run.params.num_epochs or run.stopping.is_out_of_patience
    numbered = is_last or epochs % run.params.save_freq == 0
    if numbered or is_best:
        _save(run, numbered=numbered, is_best=is_best)
    _report_checkpoints(run)


def _save(run: Run, *, numbered: bool, is_best: bool) -> None:
    if run.group.is_first:
        run.checkpoints.save(checkpoint_content(run), numbered=numbered, is_best=is_best)


def _stop(run: Run) -> FitResult:
    _save(run, numbered=True, is_best=False)
    return _finish(run, "stopped")


def _finish(run: Run, status: Literal["finished", "stopped"]) -> FitResult:
    _report_checkpoints(run, wait=True)
    result = FitResult(
        status=status,
        epoch=run.state.epoch,
        num_epochs=run.params.num_epochs,
        best=run.checkpoints.best,
        last=run.checkpoints.last,
        metrics=run.state.metrics,
    )
    for observer in run.observers:
        observer.on_finish(result)
    return result


def _files(run: Run, indices: Tensor) -> list[str]:
    names = run.train_batches.split.files
    return [names[index] for index in indices]


def _report_start(run: Run) -> None:
    started = RunStarted(
        num_epochs=run.params.num_epochs,
        first_epoch=run.state.epoch,
        n_train=len(run.train_batches.split),
        n_test=len(run.test_batches.split),
        resumed=run.state.resumed,
        n_batches=len(run.train_batches),
    )
    for observer in run.observers:
        observer.on_start(started)


def _report_batch(run: Run, loss: float, x: Tensor) -> None:
    state = run.state
    n_batches = len(run.train_batches)
    report = BatchReport(state.epoch, state.batch - 1, n_batches, state.step, loss, len(x), x)
    for observer in run.observers:
        observer.on_batch(report)
    _report_checkpoints(run)


def _report_checkpoints(run: Run, *, wait: bool = False) -> None:
    for saved in run.checkpoints.pop_written(wait=wait):
        for observer in run.observers:
            observer.on_checkpoint(saved)
