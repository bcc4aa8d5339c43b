"""Commands, as a part of the worker."""

from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

from worker.base import Base
from worker.control.agent import control_agent
from worker.control.broadcast_commands import BroadcastCommands
from worker.control.catch_up import CatchUp
from worker.control.command_listener import CommandListener
from worker.control.group_commands import GroupCommands
from worker.images.part import Images
from worker.part import Agent, Part
from worker.training.part import Training

__all__ = ["control_part"]

PACKAGES = ("darkroom", "faust-streaming", "torch")
"""Packages whose versions a worker's status shows."""


def control_part(
    base: Base, images: Images, training: Training, defaults: Mapping[str, Any]
) -> Part:
    """Return what does the commands of the control topic.

    Args:
        base: What the parts share.
        images: Where checkpoints are deployed.
        training: Where jobs are accepted.
        defaults: The trainer's params that a command's own are laid over.
    """
    group_commands = GroupCommands(training.ledger, base.events, training.runner, defaults=defaults)
    broadcast_commands = BroadcastCommands(
        images.deployment,
        training.ledger,
        base.events,
        training.runner,
        partitions=partial(base.flow.partitions_of, base.topics.images),
        versions={name: version(name) for name in PACKAGES},
    )
    listener = CommandListener(
        base.topics.control, broadcast_commands.handle, broker=base.broker, client_id=base.worker_id
    )
    return Part(
        services=[listener, CatchUp(listener, broadcast_commands)],
        agents=[Agent("control", base.topics.control, control_agent(group_commands))],
    )
