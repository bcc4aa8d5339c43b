"""Whole runs: `fit` with everything built in, `train` with steps of your own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from trainer.checkpoints.folder import CheckpointFolder
from trainer.data.splits import open_splits
from trainer.machine.seeds import set_seeds
from trainer.metrics.meters import ConfusionMeter, ScoreMeter
from trainer.net.classifier import Logits, new_classifier
from trainer.observers import FitResult, Observer
from trainer.params.params import Params
from trainer.reporting.progress import ProgressBar
from trainer.run.context import RunContext, run_context
from trainer.run.plan import RunPlan
from trainer.run.preflight import check_run
from trainer.run.steps import ClassifierSteps, Steps, TestStep, TrainStep

__all__ = ["fit", "run_default", "train"]


def fit(
    params: Mapping[str, Any] | Params,
    datadir: str | Path,
    logdir: str | Path,
    *,
    observers: Sequence[Observer] = (),
    resume: bool = False,
    should_stop: Callable[[], bool] | None = None,
) -> FitResult:
    """Train the classifier that the params describe, with the built-in steps and metrics.

    Ctrl-C and SIGTERM save a checkpoint and end the run as "stopped"; a second one is immediate.
    With `should_stop`, signals are the caller's.

    Args:
        params: The published dict or validated params.
        datadir: The folder that holds `train` and `test`.
        logdir: The folder for TensorBoard's files and `checkpoints/`.
        observers: Observers of the run, besides TensorBoard.
        resume: Go on from the newest good checkpoint in `logdir`, if there is one.
        should_stop: Asked before every batch; when true, the run saves a checkpoint and returns.

    Raises:
        ParamsError: The params are wrong; nothing was read.
        DataError: The data is bad; nothing was trained.
        CheckpointError: The checkpoint to resume from does not fit, or the last was not written.
        TrainerError: `logdir` cannot be written; nothing was read.
    """
    params = Params.validate_all(params)
    logdir = check_run(params, logdir)
    with run_context(params, logdir, observers, should_stop, resume=resume) as context:
        plan = _open_plan(context, datadir)
        result = run_default(plan) if plan else None
    return result or _result_without_run(params, logdir, resume=resume)


def train(  # noqa: PLR0917 - the published signature
    params: Mapping[str, Any] | Params,
    model: nn.Module,
    train_step: TrainStep,
    test_step: TestStep,
    datadir: str | Path,
    logdir: str | Path,
    *,
    observers: Sequence[Observer] | None = None,
    resume: bool = False,
    should_stop: Callable[[], bool] | None = None,
    **kwargs: Any,
) -> bool:
    """Train a model with your own steps; stopping and errors are as for `fit`.

    Args:
        params: The published dict or validated params.
        model: Any module; it is moved to the device that the params name.
        train_step: Called as `train_step(x, y, model, optim, **kwargs)`; returns the loss and a
            dict of float metrics or None.
        test_step: Called as `test_step(x, y, model, **kwargs)` without gradients; likewise.
        datadir: The folder that holds `train` and `test`.
        logdir: The folder for TensorBoard's files and `checkpoints/`.
        observers: Observers of the run; a progress bar when not given.
        resume: Go on from the newest good checkpoint in `logdir`, if there is one.
        should_stop: Asked before every batch.
        **kwargs: Passed to the steps. From `train_torchmetrics` and `test_torchmetrics` among them
            the trainer computes the epoch's metrics; it resets them after each epoch.

    Returns:
        True when all epochs are done, False when the run was stopped before (and saved).
    """
    params = Params.validate_all(params)
    logdir = check_run(params, logdir, own_steps=True)
    watching = [ProgressBar(params.mode)] if observers is None else observers
    steps = Steps(train_step, test_step, kwargs)
    with run_context(params, logdir, watching, should_stop, resume=resume) as context:
        plan = _open_plan(context, datadir)
        return plan is not None and plan.run(model, model, steps).status == "finished"


def run_default(plan: RunPlan) -> FitResult:
    """Train a new classifier with the built-in steps and metrics."""
    params = plan.context.params
    set_seeds(params.manual_seed)
    model = new_classifier(params)
    steps = ClassifierSteps(params, plan.train_split.labels)
    meters = {
        "train_torchmetrics": ConfusionMeter(params.n_classes),
        "test_torchmetrics": ScoreMeter(params.n_classes, params.metrics),
    }
    return plan.run(model, Logits(model), Steps(steps.train_step, steps.test_step, meters))


def _open_plan(context: RunContext, datadir: str | Path) -> RunPlan | None:
    """Open the data; return None when asked to stop meanwhile."""
    splits = context.open_together(partial(open_splits, context.params, datadir))
    return RunPlan(context, *splits) if splits else None


def _result_without_run(params: Params, logdir: Path, *, resume: bool) -> FitResult:
    """Return the result of a run that stops before it begins: that of the run it would resume."""
    with closing(CheckpointFolder(logdir)) as folder:
        last = folder.newest_good() if resume else None
        return FitResult(
            status="stopped",
            epoch=last.epoch if last else 0,
            num_epochs=params.num_epochs,
            best=folder.best if last else None,
            last=last.path if last else None,
            metrics=last.metrics if last else {},
        )
