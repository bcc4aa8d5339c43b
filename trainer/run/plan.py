"""Puts a run together from params, data, a model and its steps, and takes it apart again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from trainer.checkpoints.folder import CheckpointFolder
from trainer.data.dataset import Batches
from trainer.data.splits import Split
from trainer.data.transforms import Transforms
from trainer.errors import CheckpointError
from trainer.machine.distributed import Group, is_restarted
from trainer.machine.seeds import deterministic
from trainer.net.averaged_weights import Ema
from trainer.observers import FitResult, Observer
from trainer.params.params import Params
from trainer.reporting.dispensable import Dispensable
from trainer.reporting.html_report import Report
from trainer.reporting.tensorboard import Board
from trainer.run.best_value import BestValue
from trainer.run.learner import Learner, prepared_learner
from trainer.run.loop import train_loop
from trainer.run.schedules import Schedules
from trainer.run.state import Run, restore
from trainer.run.steps import TestStep, TrainStep

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Steps:
    """What trains and tests a batch, and the keyword arguments that both get."""

    train: TrainStep
    test: TestStep
    step_kwargs: dict[str, Any]


@dataclass(frozen=True)
class RunPlan:
    """What a run is made from, and the making of it."""

    params: Params
    group: Group
    logdir: Path
    train_split: Split
    test_split: Split

    def run(
        self,
        model: nn.Module,
        net: nn.Module,
        steps: Steps,
        *,
        observers: Sequence[Observer],
        resume: bool,
        should_stop: Callable[[], bool],
    ) -> FitResult:
        """Put the run together, let it go, and take everything apart again, whatever happens.

        Args:
            model: What is saved.
            net: What the steps get: the model, or what wraps it.
            steps: What to do with each batch.
            observers: Told of everything, besides TensorBoard and the report.
            resume: Go on from the newest good checkpoint, if there is one.
            should_stop: Asked before every batch.
        """
        with ExitStack() as stack:
            stack.enter_context(deterministic(on=self.params.deterministic))
            learner = stack.enter_context(prepared_learner(self.params, model, net, self.group))
            run = self._run(learner, steps, observers, should_stop, stack)
            _continue(run, resume=resume or is_restarted())
            result = train_loop(run)
        if result.status == "stopped":
            logger.warning("stopped; saved %s; go on with resume=True or --resume", result.last)
        return result

    def _run(
        self,
        learner: Learner,
        steps: Steps,
        observers: Sequence[Observer],
        should_stop: Callable[[], bool],
        stack: ExitStack,
    ) -> Run:
        """Return the run; what has to be closed after it is left to the stack."""
        params = self.params
        return Run(
            params=params,
            model=learner.model,
            net=learner.net,
            optim=learner.optim,
            schedules=Schedules(params, learner.optim),
            guard=learner.guard,
            ema=self._ema(learner, stack),
            best=BestValue(params.best_metric, "best_metric"),
            stopping=BestValue(
                params.early_stopping_metric,
                "early_stopping_metric",
                params.early_stopping_patience,
            ),
            train_step=steps.train,
            test_step=steps.test,
            train_batches=batches(params, self.train_split, training=True),
            test_batches=batches(params, self.test_split, training=False),
            checkpoints=stack.enter_context(
                closing(CheckpointFolder(self.logdir, params.keep_last))
            ),
            observers=self._observers(learner.model, observers, stack),
            should_stop=should_stop,
            group=self.group,
            step_kwargs=steps.step_kwargs,
        )

    def _ema(self, learner: Learner, stack: ExitStack) -> Ema | None:
        if not self.params.ema_decay:
            return None
        ema = Ema(learner.model, learner.optim, self.params.ema_decay)
        return stack.enter_context(closing(ema))

    def _observers(
        self, model: nn.Module, others: Sequence[Observer], stack: ExitStack
    ) -> Sequence[Observer]:
        """Return who is told: everybody in the first process, nobody in the others."""
        if not self.group.is_first:
            return ()
        board = Board(self.logdir, self.params, self.test_split, model)
        report = Report(self.logdir, self.params, self.test_split)
        told = (
            Dispensable(board, "TensorBoard's files"),
            Dispensable(report, "report"),
            *others,
        )
        for observer in told:
            stack.enter_context(closing(observer))
        return told


def batches(params: Params, split: Split, *, training: bool) -> Batches:
    """Return the batches of a split, to train on or to test on."""
    return Batches(
        split,
        Transforms(params, training=training),
        params.batch_size if training else params.eval_batch_size,
        seed=params.manual_seed,
        shuffle=training and params.shuffle_dataset,
        device=params.device,
    )


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
