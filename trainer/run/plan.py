"""The plan of a run: what it is made from; to run it is to put it together and take it apart."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from torch import nn

from trainer.checkpoints.folder import CheckpointFolder
from trainer.data.batches import new_batches
from trainer.data.splits import Split
from trainer.errors import CheckpointError
from trainer.machine.distributed import is_restarted
from trainer.machine.seeds import deterministic_algorithms
from trainer.metrics.epoch import EpochMetric
from trainer.net.averaged_weights import Ema
from trainer.observers import FitResult, Observer
from trainer.params.params import Params
from trainer.reporting.dispensable import Dispensable
from trainer.reporting.html_report import Report
from trainer.reporting.tensorboard import TensorBoardWriter
from trainer.run.best_value import BestValue
from trainer.run.context import RunContext
from trainer.run.learner import Learner, prepared_learner
from trainer.run.loop import train_loop
from trainer.run.schedules import Schedules
from trainer.run.state import Run, restore
from trainer.run.steps import Steps

__all__ = ["RunPlan"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunPlan:
    """What a run is made from, except for the model and its steps."""

    context: RunContext
    train_split: Split
    test_split: Split

    def run(self, model: nn.Module, net: nn.Module, steps: Steps) -> FitResult:
        """Train a model; whatever happens, everything that was opened is closed.

        Args:
            model: The model that is saved.
            net: The module that the steps get: the model, or a wrapper around it.
            steps: What trains and tests on a batch.

        Raises:
            CheckpointError: The checkpoint to resume from does not fit, or the last one of the run
                was not written.
            DivergedError: Too many steps in a row were not finite.
        """
        params, group = self.context.params, self.context.group
        with ExitStack() as stack:
            stack.enter_context(deterministic_algorithms(on=params.deterministic))
            learner = stack.enter_context(prepared_learner(params, model, net, group))
            run = self._make_run(learner, steps, stack)
            _start_at_checkpoint(run, resume=self.context.resume or is_restarted())
            result = train_loop(run)
        if result.status == "stopped":
            logger.warning("stopped; saved %s; go on with resume=True or --resume", result.last)
        return result

    def _make_run(self, learner: Learner, steps: Steps, stack: ExitStack) -> Run:
        """Return the run; the stack closes what must be closed after it."""
        context, params = self.context, self.context.params
        patience = params.early_stopping_patience
        folder = CheckpointFolder(context.logdir, params.keep_last)
        return Run(
            params=params,
            group=context.group,
            learner=learner,
            steps=steps,
            schedules=Schedules(params, learner.optim),
            ema=_make_ema(params, learner, stack),
            best=BestValue(params.best_metric, "best_metric"),
            stopping=BestValue(params.early_stopping_metric, "early_stopping_metric", patience),
            train_batches=new_batches(params, self.train_split, training=True),
            test_batches=new_batches(params, self.test_split, training=False),
            train_metrics=EpochMetric(steps.kwargs.get("train_torchmetrics")),
            test_metrics=EpochMetric(steps.kwargs.get("test_torchmetrics")),
            checkpoints=stack.enter_context(closing(folder)),
            observers=self._make_observers(learner.model, stack),
            should_stop=context.should_stop,
        )

    def _make_observers(self, model: nn.Module, stack: ExitStack) -> Sequence[Observer]:
        """Return all observers in the first process, none in the others."""
        context = self.context
        if not context.group.is_first:
            return ()
        tensorboard = TensorBoardWriter(context.logdir, context.params, self.test_split, model)
        report = Report(context.logdir, context.params, self.test_split)
        observers = (
            Dispensable(tensorboard, "TensorBoard's files"),
            Dispensable(report, "report"),
            *context.observers,
        )
        for observer in observers:
            stack.enter_context(closing(observer))
        return observers


def _make_ema(params: Params, learner: Learner, stack: ExitStack) -> Ema | None:
    if not params.ema_decay:
        return None
    return stack.enter_context(closing(Ema(learner.model, learner.optim, params.ema_decay)))


def _start_at_checkpoint(run: Run, *, resume: bool) -> None:
    """Bring the run to the newest good checkpoint, or set those of an earlier run aside."""
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
