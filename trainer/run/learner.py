"""What takes training steps: a model in its place and precision, its optimiser, and a guard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from trainer.machine.distributed import Group
from trainer.net.precision import autocast_forward
from trainer.params.params import Params
from trainer.run.step_guard import StepGuard

__all__ = ["Learner", "prepared_learner"]


@dataclass(frozen=True)
class Learner:
    """A model that is ready to be trained.

    Attributes:
        model: The model that is saved.
        net: The module that the steps get: the model, or a wrapper around it.
        optim: The optimiser of the model's weights.
        guard: Checks the gradients before each step of the optimiser.
    """

    model: nn.Module
    net: nn.Module
    optim: Optimizer
    guard: StepGuard


@contextmanager
def prepared_learner(
    params: Params, model: nn.Module, net: nn.Module, group: Group
) -> Iterator[Learner]:
    """Prepare a model for training as the params say, while the context lasts.

    Args:
        params: Device, memory layout, precision, compilation, optimiser and guard.
        model: The model to train; it is moved to the device in place.
        net: The module that the steps get: the model, or a wrapper around it.
        group: The processes that train the model together.
    """
    with ExitStack() as stack:
        _move(model, params)
        stack.enter_context(autocast_forward(net, params.precision, params.device))
        if params.compile:
            net.compile()  # at its first batch
        optim = params.optim_class(
            model.parameters(), lr=params.learning_rate, **params.optim_kwargs
        )
        guard = StepGuard(
            model, optim, clip_norm=params.clip_norm, most_in_a_row=params.most_bad_steps
        )
        stack.enter_context(closing(guard))
        yield Learner(model, stack.enter_context(group.data_parallel(net)), optim, guard)


def _move(model: nn.Module, params: Params) -> None:
    model.to(params.device)
    if params.channels_last:
        model.to(memory_format=torch.channels_last)
