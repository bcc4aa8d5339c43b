"""A worker's part in the group's commands, without Kafka and without processes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker.control.group_commands import GroupCommands
from worker.messages.commands import Command
from worker.messages.events import EventPublisher
from worker.training.jobs.job import Job
from worker.training.jobs.ledger import Ledger
from worker.training.runner import Runner

__all__ = ["PLACE", "Worker"]

PLACE = "images-control-0-7"


class Worker:
    """One worker's part, on a ledger of its own, with a runner that is not started."""

    def __init__(self, logdir: Path) -> None:
        self.ledger = Ledger(logdir, clock=lambda: 7.0)
        self.events: list[dict[str, Any]] = []
        self.on_event: Callable[[dict[str, Any]], None] = self.events.append
        events = EventPublisher(self.send, "worker-1")
        runner = Runner(
            self.ledger, events, send_command=self.send_command, datadir=logdir / "no-data"
        )
        self.group_commands = GroupCommands(self.ledger, events, runner, defaults={"num_epochs": 9})

    async def send(self, key: bytes, value: bytes) -> None:
        self.on_event(json.loads(value))

    async def send_command(self, command: Command) -> None:
        raise AssertionError(command)

    async def take(self, command: str, **fields: object) -> None:
        value = json.dumps({"command": command, **fields}).encode()
        await self.group_commands.handle(value, PLACE)

    def job(self, name: str = "a") -> Job:
        job = self.ledger.read(name)
        assert job is not None
        return job

    def keep(self, job: Job) -> None:
        lock = self.ledger.lock(job.name)
        assert lock is not None
        with lock:
            self.ledger.write(job)

    @property
    def answers(self) -> list[tuple[str, str]]:
        return [(event["event"], event["id"]) for event in self.events]

    @property
    def reason(self) -> str:
        (event,) = self.events
        assert event["event"] == "rejected"
        return str(event["reason"])
