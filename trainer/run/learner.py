"""What takes training steps: a model in its place and precision, its optimiser, and a guard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from trainer.machine.distributed import Group
from trainer.net.compilation import compile_net
from trainer.net.precision import autocast_applied
from trainer.params.params import Params
from trainer.run.step_guard import StepGuard


@dataclass(frozen=True)
class Learner:
    """A model that is ready to be trained.

    Attributes:
        model: What is saved.
        net: What the steps get: the model, or what wraps it.
        optim: Made from the params over the model's weights.
        guard: Stands before each of the optimiser's steps.
    """

    model: nn.Module
    net: nn.Module
    optim: Optimizer
    guard: StepGuard


@contextmanager
def prepared_learner(
    params: Params, model: nn.Module, net: nn.Module, group: Group
) -> Iterator[Learner]:
    """Make a model ready to be trained as the params say, while the context lasts.

    Args:
        params: Device, memory layout, precision, compilation, optimiser and guard.
        model: What is trained; it is moved in place.
        net: What the steps get: the model, or what wraps it.
        group: The processes that train it together.

    Raises:
        ParamsError: The net is to be compiled, and there is no compiler.
    """
    with ExitStack() as stack:
        _place(model, params)
        stack.enter_context(autocast_applied(net, params.precision, params.device))
        if params.compile:
            compile_net(net, params.device)
        optim = params.optim_class(
            model.parameters(), lr=params.learning_rate, **params.optim_kwargs
        )
        guard = StepGuard(
            model, optim, clip_norm=params.clip_norm, most_in_a_row=params.most_bad_steps
        )
        stack.enter_context(closing(guard))
        yield Learner(model, stack.enter_context(group.wrapped(net)), optim, guard)


def _place(model: nn.Module, params: Params) -> None:
    model.to(params.device)
    if params.channels_last:
        model.to(memory_format=torch.channels_last)
