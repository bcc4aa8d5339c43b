"""A run: what it is made of, what changes while it runs, and what of it a checkpoint holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.checkpoints.checkpoint import FORMAT, Checkpoint
from trainer.checkpoints.folder import CheckpointFolder
from trainer.data.batches import Batches
from trainer.machine.distributed import Group
from trainer.machine.seeds import random_states, restore_random_states
from trainer.machine.versions import versions
from trainer.metrics.epoch import Averages, EpochMetric
from trainer.net.averaged_weights import Ema
from trainer.observers import Observer, TestOutputs
from trainer.params.params import Params
from trainer.run.best_value import BestValue
from trainer.run.learner import Learner
from trainer.run.schedules import Schedules
from trainer.run.steps import Steps

__all__ = ["Run", "RunState", "checkpoint_content", "restore"]


@dataclass
class RunState:
    """Where a run is, and what it has found so far.

    Attributes:
        epoch: Number of finished epochs.
        batch: Number of finished batches of the next epoch.
        step: Number of training steps of the whole run.
        averages: Means of what the steps of this epoch returned.
        metrics: Loss and metrics of the last evaluation, by name.
        test_outputs: Probabilities and labels of the last evaluation, where the steps kept them.
        resumed: Whether the run goes on from a checkpoint.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    averages: Averages = field(default_factory=Averages)
    metrics: dict[str, float] = field(default_factory=dict)
    test_outputs: TestOutputs | None = None
    resumed: bool = False


@dataclass(frozen=True)
class Run:
    """Everything that a training run needs; `trainer.run.plan` puts it together.

    Attributes:
        learner: Model, optimiser and guard.
        steps: What trains and tests on a batch.
        ema: The averaged weights, if there are any.
        best: Decides which checkpoint is the best.
        stopping: Decides when to stop early.
        should_stop: Asked before every batch.
    """

    params: Params
    group: Group
    learner: Learner
    steps: Steps
    schedules: Schedules
    ema: Ema | None
    best: BestValue
    stopping: BestValue
    train_batches: Batches
    test_batches: Batches
    train_metrics: EpochMetric
    test_metrics: EpochMetric
    checkpoints: CheckpointFolder
    observers: Sequence[Observer]
    should_stop: Callable[[], bool]
    state: RunState = field(default_factory=RunState)


def checkpoint_content(run: Run) -> dict[str, Any]:
    """Return everything that a checkpoint holds: enough to go on bit for bit, and to serve."""
    learner, state = run.learner, run.state
    return {
        "format": FORMAT,
        "params": run.params.as_json(),
        "class_names": list(run.train_batches.split.class_names),
        "metrics": dict(state.metrics),
        "versions": versions(),
        "model": learner.model.state_dict(),
        "ema": run.ema.state_dict() if run.ema else None,
        "optimiser": learner.optim.state_dict(),
        "schedules": run.schedules.state_dict(),
        "position": {"epoch": state.epoch, "batch": state.batch, "step": state.step},
        "best": run.best.state_dict(),
        "stopping": run.stopping.state_dict(),
        "skipped": learner.guard.skipped,
        "averages": state.averages.state_dict(),
        "train_collection": run.train_metrics.state_dict(),
        "random_states": random_states(),
    }


def restore(run: Run, checkpoint: Checkpoint) -> None:
    """Bring a run to where `checkpoint_content` was called.

    Raises:
        RuntimeError, ValueError, KeyError, TypeError: The checkpoint is of a run with another net,
            optimiser or schedules.
    """
    content, learner, state = checkpoint.content, run.learner, run.state
    learner.model.load_state_dict(content["model"])
    if run.ema and content["ema"]:
        run.ema.load_state_dict(content["ema"])
    learner.optim.load_state_dict(content["optimiser"])
    run.schedules.load_state_dict(content["schedules"])
    run.best.load_state_dict(content["best"])
    run.stopping.load_state_dict(content["stopping"])
    learner.guard.restart(content["skipped"])
    run.train_metrics.load_state_dict(content["train_collection"])
    for name in ("epoch", "batch", "step"):
        setattr(state, name, content["position"][name])
    state.averages.load_state_dict(content["averages"])
    state.metrics = dict(content["metrics"])
    state.resumed = True
    restore_random_states(content["random_states"])
