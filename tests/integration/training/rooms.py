"""A log directory with data, and runners that work in it: what the tests of jobs begin with."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from worker.messages.commands import Command
from worker.messages.events import EventPublisher
from worker.training.jobs import Job, JobState, Ledger
from worker.training.runner import Runner

PARAMS: dict[str, Any] = {
    "batch_size": 64,
    "eval_batch_size": 200,
    "eval_freq": 1,
    "flip_images": False,
    "learning_rate": 0.05,
    "num_epochs": 3,
    "save_freq": 1,
}
LONG = PARAMS | {"num_epochs": 1000}
WAIT_S = 60.0

Event = dict[str, Any]


@dataclass
class Room:
    """One log directory, and all that its runners tell."""

    logdir: Path
    datadir: Path
    events: list[Event] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.logdir)

    def runner(self, worker: str = "worker-1", **settings: Any) -> Runner:
        settings = {"scan_s": 0.2, "datadir": self.datadir} | settings
        events = EventPublisher(self._send, worker)
        return Runner(self.ledger, events, send_command=self._send_command, **settings)

    async def _send(self, _key: bytes, value: bytes) -> None:
        self.events.append(json.loads(value))

    async def _send_command(self, command: Command) -> None:
        self.commands.append(command)

    def accept(self, name: str, params: dict[str, Any] = PARAMS, **fields: Any) -> None:
        """Put a job into the ledger, as if its command had been taken."""
        job = Job(
            name=name, params=params, accepted_at=time.time(), told=JobState.ACCEPTED, **fields
        )
        lock = self.ledger.lock(name)
        assert lock is not None
        with lock:
            self.ledger.write(job)

    def job(self, name: str) -> Job:
        job = self.ledger.read(name)
        assert job is not None
        return job

    def is_free(self, name: str) -> bool:
        """Whether nobody works on a job."""
        lock = self.ledger.lock(name)
        if lock is not None:
            lock.close()
        return lock is not None

    def told(self, name: str) -> list[Event]:
        return [event for event in self.events if event["event"] == name]

    async def heard(self, event: str, count: int = 1) -> Event:
        """Wait until an event came so many times, and return the last."""
        await until(lambda: len(self.told(event)) >= count, f"{count} {event}: {self.events}")
        return self.told(event)[count - 1]


async def until(condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process is there and not only waiting to be reaped."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
