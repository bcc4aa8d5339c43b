"""Reads the control topic in the worker group, where each command goes to one worker."""

from collections.abc import Awaitable, Callable
from typing import Any

from worker.control.group_commands import GroupCommands
from worker.messages.commands import message_id

__all__ = ["control_agent"]

MAX_BATCH = 16
MAX_BATCH_WAIT_S = 0.02


def control_agent(group_commands: GroupCommands) -> Callable[[Any], Awaitable[None]]:
    """Return an agent's body for `app.agent(topic, supervisor_strategy=mode.CrashingSupervisor)`.

    A command is acknowledged when it is on disk or its rejection is confirmed. An error that leaves
    the body ends the worker, and the command is delivered again. With `take` instead of
    `noack_take`, or with another supervisor, it would be lost.
    """

    async def control(stream: Any) -> None:
        """Do the commands that exactly one worker must do."""
        async for events in stream.noack_take(MAX_BATCH, within=MAX_BATCH_WAIT_S):
            for event in events:
                message = event.message
                place = message_id(message.topic, message.partition, message.offset)
                await group_commands.handle(event.value, place)
                event.ack()

    return control
