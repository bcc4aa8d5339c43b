"""The state of a run: everything that it is made of.

A checkpoint holds what of it is needed to go on bit for bit, and to serve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer

from trainer.checkpoints.checkpoint import FORMAT, Checkpoint
from trainer.checkpoints.folder import CheckpointFolder
from trainer.data.dataset import Batches
from trainer.machine.distributed import Group
from trainer.machine.seeds import random_states, restore_random_states
from trainer.machine.versions import versions
from trainer.metrics.epoch import Averages, Collection
from trainer.net.averaged_weights import Ema
from trainer.observers import Observer, TestOutputs
from trainer.params.params import Params
from trainer.run.best_value import BestValue
from trainer.run.schedules import Schedules
from trainer.run.step_guard import StepGuard
from trainer.run.steps import TestStep, TrainStep


@dataclass
class Position:
    """Where a run is: `epoch` epochs are done and `batch` batches of the next one."""

    epoch: int = 0
    batch: int = 0
    step: int = 0


@dataclass
class Run:
    """Everything that a run needs, put together by `trainer.run.plan`.

    Attributes:
        model: What is saved.
        net: What the steps get: the model, or what wraps it.
        ema: The averaged weights, when there are any.
        best: Decides which checkpoint is the best.
        stopping: Decides when there is nothing more to expect.
        step_kwargs: Keyword arguments for the steps.
    """

    params: Params
    model: nn.Module
    net: nn.Module
    optim: Optimizer
    schedules: Schedules
    guard: StepGuard
    ema: Ema | None
    best: BestValue
    stopping: BestValue
    train_step: TrainStep
    test_step: TestStep
    train_batches: Batches
    test_batches: Batches
    checkpoints: CheckpointFolder
    observers: Sequence[Observer]
    should_stop: Callable[[], bool]
    group: Group
    step_kwargs: dict[str, Any] = field(default_factory=dict)
    position: Position = field(default_factory=Position)
    averages: Averages = field(default_factory=Averages)
    metrics: dict[str, float] = field(default_factory=dict)
    resumed: bool = False
    test_outputs: TestOutputs | None = None

    def __post_init__(self) -> None:
        """Find the metric collections among what is passed on to the steps."""
        self.train_collection = Collection(self.step_kwargs.get("train_torchmetrics"))
        self.test_collection = Collection(self.step_kwargs.get("test_torchmetrics"))


def content_of(run: Run) -> dict[str, Any]:
    """Return everything that a checkpoint holds."""
    return {
        "format": FORMAT,
        "params": run.params.as_json(),
        "class_names": list(run.train_batches.split.class_names),
        "metrics": dict(run.metrics),
        "versions": versions(),
        "model": run.model.state_dict(),
        "ema": run.ema.state_dict() if run.ema else None,
        "optimiser": run.optim.state_dict(),
        "schedules": run.schedules.state_dict(),
        "position": vars(run.position).copy(),
        "best": run.best.state_dict(),
        "stopping": run.stopping.state_dict(),
        "skipped": run.guard.skipped,
        "averages": run.averages.state_dict(),
        "train_collection": run.train_collection.state_dict(),
        "random_states": random_states(),
    }


def restore(run: Run, checkpoint: Checkpoint) -> None:
    """Put back what `content_of` returned when the checkpoint was written.

    Raises:
        RuntimeError, ValueError, KeyError, TypeError: The run is of another shape.
    """
    content = checkpoint.content
    run.model.load_state_dict(content["model"])
    if run.ema and content["ema"]:
        run.ema.load_state_dict(content["ema"])
    run.optim.load_state_dict(content["optimiser"])
    run.schedules.load_state_dict(content["schedules"])
    for name, value in content["position"].items():
        setattr(run.position, name, value)
    run.best.load_state_dict(content["best"])
    run.stopping.load_state_dict(content["stopping"])
    run.guard.restart(content["skipped"])
    run.averages.load_state_dict(content["averages"])
    run.train_collection.load_state_dict(content["train_collection"])
    run.metrics = dict(content["metrics"])
    restore_random_states(content["random_states"])
    run.resumed = True
