"""Catches up with what is deployed: at the start, and now and then."""

import mode

from worker.control.broadcast_commands import BroadcastCommands
from worker.control.command_listener import CommandListener

__all__ = ["CatchUp"]

INTERVAL_S = 2.0
"""How often a worker looks whether it serves what is deployed."""


class CatchUp(mode.Service):
    """Serves what is deployed, once no later deployment can be missed."""

    def __init__(self, listener: CommandListener, broadcast_commands: BroadcastCommands) -> None:
        super().__init__()
        self._listener = listener
        self._broadcast_commands = broadcast_commands

    @mode.Service.task
    async def _keep_up(self) -> None:
        await self.wait(self._listener.has_position.wait())
        while not self.should_stop:
            await self._broadcast_commands.catch_up()
            await self.sleep(INTERVAL_S)
