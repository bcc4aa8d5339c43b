"""Whole runs: `fit` with everything built in, `train` with your own steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from trainer.checkpoints.folder import CheckpointFolder, writable
from trainer.data.decoding import Told
from trainer.data.splits import open_splits
from trainer.errors import ParamsError
from trainer.machine.distributed import Group, process_group
from trainer.machine.seeds import set_seeds
from trainer.machine.signals import StopRequested, stop_requests
from trainer.metrics.meters import ConfusionMeter, ScoreMeter
from trainer.net.classifier import Logits, new_classifier
from trainer.observers import FitResult, Observer
from trainer.params.params import Params
from trainer.reporting.progress import ProgressBar
from trainer.run.plan import RunPlan, Steps
from trainer.run.steps import ClassifierSteps, TestStep, TrainStep

DataT = TypeVar("DataT")


def fit(
    params: Mapping[str, Any] | Params,
    datadir: str | Path,
    logdir: str | Path,
    *,
    observers: Sequence[Observer] = (),
    resume: bool = False,
    should_stop: Callable[[], bool] | None = None,
) -> FitResult:
    """Train the classifier that the params describe, with the default steps and metrics.

    Ctrl-C and SIGTERM save a checkpoint and end the run as "stopped"; a second one is immediate.
    With `should_stop`, signals are the caller's.

    Args:
        params: The published dict or validated params.
        datadir: The folder that holds `train` and `test`.
        logdir: Where TensorBoard's files and `checkpoints/` go.
        observers: Told of everything, besides TensorBoard.
        resume: Go on from the newest good checkpoint in `logdir`, if there is one.
        should_stop: Asked before every batch; when true, the run saves a checkpoint and returns.

    Raises:
        ParamsError: The params are wrong; nothing was read.
        DataError: The data is bad; nothing was trained.
        CheckpointError: The checkpoint to resume from does not fit, or the last was not written.
        TrainerError: `logdir` cannot be written; nothing was read.
    """
    params = Params.validate_all(params)
    logdir = writable(logdir)
    with process_group(params.device) as group, stop_requests(should_stop) as stop:
        check_together(params, group)
        splits = open_together(partial(open_splits, params, datadir), group, observers, stop)
        if splits is None:
            return _not_started(params, logdir, resume=resume)
        run = RunPlan(params, group, logdir, *splits)
        return run_default(run, observers=observers, resume=resume, should_stop=stop)


def run_default(
    run: RunPlan, *, observers: Sequence[Observer], resume: bool, should_stop: Callable[[], bool]
) -> FitResult:
    """Let a run go with a new classifier, the default steps and metrics; the rest is `fit`'s."""
    params = run.params
    set_seeds(params.manual_seed)
    model = new_classifier(params)
    steps = ClassifierSteps(params, run.train_split.labels)
    scores = ScoreMeter(params.n_classes, params.metrics)
    _check_metrics(params, scores.names)
    meters = {
        "train_torchmetrics": ConfusionMeter(params.n_classes),
        "test_torchmetrics": scores,
    }
    return run.run(
        model,
        Logits(model),
        Steps(steps.train_step, steps.test_step, meters),
        observers=observers,
        resume=resume,
        should_stop=should_stop,
    )


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
    """Train a model with steps of your own.

    Args:
        params: The published dict or validated params.
        model: Any module; it is moved to the params' device.
        train_step: Called as `train_step(x, y, model, optim, **kwargs)`; returns the loss and a
            dict of float metrics or None.
        test_step: Called as `test_step(x, y, model, **kwargs)` without gradients; likewise.
        datadir: The folder that holds `train` and `test`.
        logdir: Where TensorBoard's files and `checkpoints/` go.
        observers: Told of everything; a progress bar when not given.
        resume: Go on from the newest good checkpoint in `logdir`, if there is one.
        should_stop: Asked before every batch; when true, the run saves a checkpoint and returns.
        **kwargs: Passed on to the steps. Of `train_torchmetrics` and `test_torchmetrics` the
            epoch's figures are computed, and both are reset after every epoch.

    Returns:
        True when all epochs are done, False when it was stopped before (and saved).

    Raises:
        ParamsError: The params are wrong; nothing was read.
        DataError: The data is bad; nothing was trained.
        CheckpointError: The checkpoint to resume from does not fit, or the last was not written.
        TrainerError: `logdir` cannot be written; nothing was read.
    """
    params = Params.validate_all(params)
    if params.precision == "float16":
        finding = "precision: float16 needs gradient scaling, which only the default steps have"
        raise ParamsError("wrong params", [finding])
    logdir = writable(logdir)
    watching = [ProgressBar(params.mode)] if observers is None else observers
    with process_group(params.device) as group, stop_requests(should_stop) as stop:
        splits = open_together(partial(open_splits, params, datadir), group, watching, stop)
        if splits is None:
            return False
        result = RunPlan(params, group, logdir, *splits).run(
            model,
            model,
            Steps(train_step, test_step, kwargs),
            observers=watching,
            resume=resume,
            should_stop=stop,
        )
    return result.status == "finished"


def open_together(
    open_data: Callable[[Told], DataT],
    group: Group,
    observers: Sequence[Observer],
    should_stop: Callable[[], bool],
) -> DataT | None:
    """Open the data, or return None, in all processes, when one is asked to stop meanwhile.

    Observers are closed where no run follows.
    """
    watching = observers if group.is_first else ()

    def tell(done: int, total: int) -> None:
        if should_stop():
            raise StopRequested
        for observer in watching:
            observer.on_decoding(done, total)

    data = None
    with ExitStack() as stack:
        for observer in observers:
            stack.enter_context(closing(observer))
        with group.first_rank_first(), suppress(StopRequested):
            data = open_data(tell)
        if group.any(data is None):
            return None
        stack.pop_all()
    return data


def _not_started(params: Params, logdir: Path, *, resume: bool) -> FitResult:
    """Return how a run ended that was stopped before it began: as it was left the last time."""
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


def check_together(params: Params, group: Group) -> None:
    """Refuse what several processes cannot do.

    Raises:
        ParamsError: Accumulated gradients; each process's part of the batch is small already.
    """
    if group.size > 1 and params.gradient_accumulation > 1:
        finding = "gradient_accumulation: several processes share the batch already; set it to 1"
        raise ParamsError("wrong params", [finding])


def _check_metrics(params: Params, names: Collection[str]) -> None:
    """Refuse, before the first step, to watch a metric that the evaluation will not have.

    Raises:
        ParamsError: With every such key.
    """
    raw = [f"raw_{name}" for name in names] if params.ema_decay else []
    known = [*names, *raw]
    watched = {
        "best_metric": params.best_metric,
        "early_stopping_metric": params.early_stopping_metric,
    }
    for index, schedule in enumerate(params.learning_rate_schedule):
        watched[f"learning_rate_schedule[{index}].metric"] = schedule.metric
    findings = [
        f"{key}: {metric!r} is no metric; there are: {', '.join(known)}"
        for key, metric in watched.items()
        if metric not in known
    ]
    if findings:
        raise ParamsError("wrong params", findings)
