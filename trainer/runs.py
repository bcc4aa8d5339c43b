"""Puts a run together and lets it go: `fit` with everything built in, `train` with your steps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainer.board import Board
from trainer.checkpoint_folder import CheckpointFolder, writable
from trainer.classifier import Logits, assemble
from trainer.dataset import Batches
from trainer.distributed import Group, is_restarted, joined
from trainer.ema import Ema
from trainer.errors import CheckpointError, ParamsError
from trainer.guard import Guard
from trainer.loop import Run
from trainer.metrics import ConfusionMeter, ScoreMeter
from trainer.observers import Dispensable, FitResult, Observer
from trainer.params import Params
from trainer.precision import applied
from trainer.progress import ProgressBar
from trainer.report import Report
from trainer.schedules import Schedules
from trainer.seeds import deterministic, set_seeds
from trainer.signals import StopSignals
from trainer.splits import Split, open_splits
from trainer.state import restore
from trainer.steps import ClassifierSteps, TestStep, TrainStep
from trainer.transforms import Transforms
from trainer.watch import Watch

logger = logging.getLogger(__name__)


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
    with joined(params.device) as group:
        if group.size > 1 and params.gradient_accumulation > 1:
            finding = (
                "gradient_accumulation: several processes share the batch already; set it to 1"
            )
            raise ParamsError("wrong params", [finding])
        train_split, test_split = _opened(params, datadir, group)
        set_seeds(params.manual_seed)
        model = assemble(params)
        steps = ClassifierSteps(params, train_split.labels)
        scores = ScoreMeter(params.n_classes, params.metrics)
        _check_metrics(params, scores.names)
        meters = {
            "train_torchmetrics": ConfusionMeter(params.n_classes),
            "test_torchmetrics": scores,
        }
        run = Assembly(params, group, logdir, train_split, test_split)
        return run.go(
            model, Logits(model), steps.train_step, steps.test_step, meters,
            observers=observers, resume=resume, should_stop=should_stop,
        )  # fmt: skip


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
    with joined(params.device) as group:
        splits = _opened(params, datadir, group)
        watching = [ProgressBar(params.mode)] if observers is None else observers
        result = Assembly(params, group, logdir, *splits).go(
            model, model, train_step, test_step, kwargs,
            observers=watching, resume=resume, should_stop=should_stop,
        )  # fmt: skip
    return result.status == "finished"


@dataclass(frozen=True)
class Assembly:
    """What a run is made from, and the making of it."""

    params: Params
    group: Group
    logdir: Path
    train_split: Split
    test_split: Split

    def go(
        self,
        model: nn.Module,
        net: nn.Module,
        train_step: TrainStep,
        test_step: TestStep,
        passed_on: dict[str, Any],
        *,
        observers: Sequence[Observer],
        resume: bool,
        should_stop: Callable[[], bool] | None,
    ) -> FitResult:
        """Put the run together, let it go, and take everything apart again, whatever happens."""
        params, group = self.params, self.group
        with ExitStack() as stack:
            stack.enter_context(deterministic(on=params.deterministic))
            if should_stop is None:
                should_stop = stack.enter_context(StopSignals()).have_come
            _place(model, params)
            stack.enter_context(applied(net, params.precision, params.device))
            if params.compile:
                net.compile()
            optim = params.optim_class(
                model.parameters(), lr=params.learning_rate, **params.optim_kwargs
            )
            guard = Guard(
                model, optim, clip_norm=params.clip_norm, most_in_a_row=params.most_bad_steps
            )
            stack.callback(guard.close)
            ema = Ema(model, optim, params.ema_decay) if params.ema_decay else None
            if ema:
                stack.callback(ema.close)
            checkpoints = CheckpointFolder(self.logdir, params.keep_last)
            stack.callback(checkpoints.close)
            heard = self._observers(model, observers)
            for observer in heard:
                stack.callback(observer.close)
            run = Run(
                params=params,
                model=model,
                net=stack.enter_context(group.wrapped(net)),
                optim=optim,
                schedules=Schedules(params, optim),
                guard=guard,
                ema=ema,
                best=Watch(params.best_metric, "best_metric"),
                stopping=Watch(
                    params.early_stopping_metric,
                    "early_stopping_metric",
                    params.early_stopping_patience,
                ),
                train_step=train_step,
                test_step=test_step,
                train_batches=self._batches(training=True),
                test_batches=self._batches(training=False),
                checkpoints=checkpoints,
                observers=heard,
                should_stop=should_stop,
                group=group,
                passed_on=passed_on,
            )
            _continue(run, resume=resume or is_restarted())
            result = run.go()
        if result.status == "stopped":
            logger.warning("stopped; saved %s; go on with resume=True or --resume", result.last)
        return result

    def _observers(self, model: nn.Module, others: Sequence[Observer]) -> Sequence[Observer]:
        """Return who is told: everybody in the first process, nobody in the others."""
        if not self.group.is_first:
            return ()
        board = Board(self.logdir, self.params, self.test_split, model)
        report = Report(self.logdir, self.params, self.test_split)
        return (Dispensable(board, "TensorBoard's files"), Dispensable(report, "report"), *others)

    def _batches(self, *, training: bool) -> Batches:
        params = self.params
        return Batches(
            self.train_split if training else self.test_split,
            Transforms(params, training=training),
            params.batch_size if training else params.eval_batch_size,
            seed=params.manual_seed,
            shuffle=training and params.shuffle_dataset,
            device=params.device,
        )


def _opened(params: Params, datadir: str | Path, group: Group) -> tuple[Split, Split]:
    with group.first_alone_first():
        return open_splits(params, datadir)


def _place(model: nn.Module, params: Params) -> None:
    model.to(params.device)
    if params.channels_last:
        model.to(memory_format=torch.channels_last)


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


def _continue(run: Run, *, resume: bool) -> None:
    """Bring the run to the newest good checkpoint, or put those of an earlier run aside."""
    if not resume:
        if run.group.is_first:
            run.checkpoints.set_aside()
        return
    checkpoint = run.checkpoints.newest_good()
    if checkpoint is None:
        return
    try:
        restore(run, checkpoint)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{checkpoint.path} does not fit this run (other net, optimiser or schedules): {error}"
        ) from error
    logger.info("resumed from %s", checkpoint.path)
