"""Puts a run together and lets it go: `fit` with everything built in, `train` with your steps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import nn

from trainer.board import Board
from trainer.checkpoint_folder import CheckpointFolder
from trainer.classifier import Logits, assemble
from trainer.dataset import Batches, open_splits
from trainer.errors import CheckpointError
from trainer.loop import Run
from trainer.metrics import ConfusionMeter, ScoreMeter
from trainer.observers import FitResult, Observer
from trainer.params import Params
from trainer.progress import ProgressBar
from trainer.schedules import Schedules
from trainer.seeds import set_seeds
from trainer.signals import StopSignals
from trainer.steps import ClassifierSteps, TestStep, TrainStep
from trainer.transforms import Transforms

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
    """
    params = Params.validate_all(params)
    set_seeds(params.manual_seed)
    model = assemble(params)
    steps = ClassifierSteps(params)
    passed_on = {
        "train_torchmetrics": ConfusionMeter(params.n_classes),
        "test_torchmetrics": ScoreMeter(params.n_classes),
    }
    return _run(
        params, model, Logits(model), steps.train_step, steps.test_step, Path(datadir),
        Path(logdir), passed_on, observers, resume, should_stop,
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
    """
    params = Params.validate_all(params)
    watching = [ProgressBar(params.mode)] if observers is None else observers
    result = _run(
        params, model, model, train_step, test_step, Path(datadir), Path(logdir), kwargs, watching,
        resume, should_stop,
    )  # fmt: skip
    return result.status == "finished"


def _run(  # noqa: PLR0917 - both callers give all of them
    params: Params, model: nn.Module, net: nn.Module, train_step: TrainStep, test_step: TestStep,
    datadir: Path, logdir: Path, passed_on: dict[str, Any], observers: Sequence[Observer],
    resume: bool, should_stop: Callable[[], bool] | None,  # noqa: FBT001
) -> FitResult:  # fmt: skip
    train_split, test_split = open_splits(params, datadir)
    model.to(params.device)
    optim = params.optim_class(model.parameters(), lr=params.learning_rate, **params.optim_kwargs)
    schedules = Schedules(params.learning_rate_schedule, optim)
    training, testing = Transforms(params, training=True), Transforms(params)
    seed, device = params.manual_seed, params.device
    with ExitStack() as stack:
        checkpoints = CheckpointFolder(logdir)
        stack.callback(checkpoints.close)
        board = Board(logdir, test_split.class_names)
        for observer in (board, *observers):
            stack.callback(observer.close)
        if should_stop is None:
            should_stop = stack.enter_context(StopSignals()).have_come
        run = Run(
            params=params,
            model=model,
            net=net,
            optim=optim,
            schedules=schedules,
            train_step=train_step,
            test_step=test_step,
            train_batches=Batches(
                train_split, training, params.batch_size,
                seed=seed, device=device, shuffle=params.shuffle_dataset,
            ),
            test_batches=Batches(
                test_split, testing, params.eval_batch_size, seed=seed, device=device
            ),
            checkpoints=checkpoints,
            observers=(board, *observers),
            should_stop=should_stop,
            passed_on=passed_on,
        )  # fmt: skip
        _continue(run, resume=resume)
        result = run.go()
    if result.status == "stopped":
        logger.warning("stopped; saved %s; go on with resume=True or --resume", result.last)
    return result


def _continue(run: Run, *, resume: bool) -> None:
    """Bring the run to the newest good checkpoint, or put those of an earlier run aside."""
    if not resume:
        run.checkpoints.set_aside()
        return
    checkpoint = run.checkpoints.newest_good()
    if checkpoint is None:
        return
    try:
        run.restore(checkpoint)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{checkpoint.path} does not fit this run (other net, optimiser or schedules): {error}"
        ) from error
    logger.info("resumed from %s", checkpoint.path)
