"""Takes commands from the control topic in the worker group: each goes to one worker."""

from collections.abc import Awaitable, Callable
from typing import Any

from worker.control.group_commands import GroupCommands
from worker.messages.commands import message_id

__all__ = ["control_agent"]

AT_ONCE = 16
WITHIN_S = 0.02


def control_agent(group_commands: GroupCommands) -> Callable[[Any], Awaitable[None]]:
    """The agent's body, for `app.agent(topic, supervisor_strategy=mode.CrashingSupervisor)`.

    A command is acknowledged when it is on disk or its rejection is confirmed. An error that
    escapes ends the worker, and the command is delivered again; with `take`, or another
    supervisor, it would be lost.
    """

    async def control(stream: Any) -> None:
        """Does the commands that exactly one worker must do."""
        async for events in stream.noack_take(AT_ONCE, within=WITHIN_S):
            for event in events:
                message = event.message
                place = message_id(message.topic, message.partition, message.offset)
                await group_commands.handle(event.value, place)
                event.ack()

    return control
