"""A log directory with data, and runners that work in it: where the tests of jobs begin."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.leaks import command_line
from worker.messages.commands import Command
from worker.messages.events import EventPublisher
from worker.training.job_process import JobProcess
from worker.training.jobs.job import Job, JobState
from worker.training.jobs.ledger import Ledger, Lock
from worker.training.process.messages import Task
from worker.training.runner import Runner, StartProcess

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
    """One log directory, and everything that its runners publish.

    Attributes:
        start_process: What the runners start for a job.
        processes: The processes that they have started, the last one last.
    """

    logdir: Path
    datadir: Path
    start_process: StartProcess = JobProcess.start
    events: list[Event] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    processes: list[JobProcess] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.logdir)

    def runner(self, worker: str = "worker-1", **settings: Any) -> Runner:
        settings = {"scan_s": 0.2, "datadir": self.datadir} | settings
        return Runner(
            self.ledger,
            EventPublisher(self._send, worker),
            send_command=self._send_command,
            start_process=self._start,
            **settings,
        )

    async def _start(self, task: Task, lock: Lock) -> JobProcess:
        self.processes.append(await self.start_process(task, lock))
        return self.processes[-1]

    async def _send(self, _key: bytes, value: bytes) -> None:
        self.events.append(json.loads(value))

    async def _send_command(self, command: Command) -> None:
        self.commands.append(command)

    def accept(self, name: str, params: dict[str, Any] = PARAMS, **fields: Any) -> None:
        """Put a job into the ledger, as if its command had been taken."""
        fields = {"accepted_at": time.time(), "published_state": JobState.ACCEPTED} | fields
        lock = self.ledger.lock(name)
        assert lock is not None
        with lock:
            self.ledger.write(Job(name=name, params=params, **fields))

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

    @property
    def event_names(self) -> list[str]:
        return [event["event"] for event in self.events]

    def events_named(self, name: str) -> list[Event]:
        return [event for event in self.events if event["event"] == name]

    async def event(self, name: str, count: int = 1) -> Event:
        """Wait until so many events of a name were published, and return the last of these."""
        await until(lambda: len(self.events_named(name)) >= count, f"{count} {name}: {self.events}")
        return self.events_named(name)[count - 1]


async def until(condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(0.005)


def assert_whole_training(events: list[Event], epochs: int) -> None:
    """A training begins and ends once, and says every epoch, each before its checkpoint.

    A checkpoint is written while the next epoch is trained, and may be reported after it.
    """
    names = [event["event"] for event in events]
    assert (names[0], names[-1]) == ("started", "finished")
    assert sorted(names) == sorted(["started", *["epoch", "checkpoint"] * epochs, "finished"])
    done = [(event["epoch"], event["event"] == "checkpoint") for event in events[1:-1]]
    assert [epoch for epoch, is_saved in done if not is_saved] == list(range(1, epochs + 1))
    assert [epoch for epoch, is_saved in done if is_saved] == list(range(1, epochs + 1))
    assert all(done.index((epoch, False)) < done.index((epoch, True)) for epoch, _ in done)


def spawned_by(pid: int) -> list[int]:
    """Return the ids of the jobs' processes that a worker has started, or of a launcher's ranks.

    The oldest comes first, which is rank 0.
    """
    children = psutil.Process(pid).children()
    spawned = [child for child in children if "spawn_main" in command_line(child)]
    return [child.pid for child in sorted(spawned, key=psutil.Process.create_time)]


def is_alive(pid: int) -> bool:
    """Whether a process is there and not only waiting to be reaped."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
