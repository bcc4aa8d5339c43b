"""Workers that share a log directory: one trains, and what dies leaves the job to another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.job_room import PARAMS, WAIT_S, Room, assert_whole_training, is_alive, until
from tests.leaks import command_line
from worker.testing.digits import write_digits
from worker.training.jobs.job import JobState

PROGRAM = Path(__file__).parent / "lone_worker.py"


@pytest.fixture
def room(tmp_path: Path) -> Room:
    write_digits(tmp_path / "data", 500, 100)
    return Room(tmp_path / "logs", tmp_path / "data")


class LoneWorker:
    """A worker's training part in a process group of its own."""

    def __init__(self, room: Room) -> None:
        command = [sys.executable, str(PROGRAM), str(room.logdir), str(room.datadir)]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": "."},
        )

    def hear(self, name: str) -> dict[str, Any]:
        """Read events until one of this name comes."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event.get("event") == name:
                return event
        raise AssertionError(f"the worker ended before {name}")

    @property
    def training_pids(self) -> list[int]:
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child.pid for child in children if "resource_tracker" not in command_line(child)]

    def end(self) -> list[dict[str, Any]]:
        """Stop it as a supervisor does, and return what it told since it was last heard."""
        self.process.terminate()
        rest, _ = self.process.communicate(timeout=15)
        return [json.loads(line) for line in rest.splitlines()]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def processes() -> int:
    return 1


@pytest.fixture
def lone_worker(room: Room, processes: int) -> Iterator[LoneWorker]:
    room.accept("a", PARAMS | {"num_epochs": 12, "device": "cpu"}, processes=processes)
    worker = LoneWorker(room)
    yield worker
    worker.close()


@pytest.mark.parametrize("processes", [2])
async def test_ranks_that_are_starting_die_with_the_worker_too(
    room: Room, lone_worker: LoneWorker
) -> None:
    """Nothing is left of a worker that is killed before its training has begun."""
    await until(lambda: len(lone_worker.training_pids) == 3, "the ranks to be started")
    pids = lone_worker.training_pids
    lone_worker.process.kill()

    await until(lambda: not any(map(is_alive, pids)), "the training to die with its worker", 20.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_the_whole_group_leaves_the_job_resumable(
    room: Room, lone_worker: LoneWorker, number: signal.Signals
) -> None:
    """Ctrl-C, or SIGTERM to all: saved, ended with 0 in time, to be taken up again."""
    lone_worker.hear("epoch")
    (pid,) = lone_worker.training_pids
    begin = time.monotonic()
    os.killpg(lone_worker.process.pid, number)
    code = lone_worker.process.wait(15)
    seconds = time.monotonic() - begin

    assert (code, room.job("a").state, room.is_free("a")) == (0, JobState.ACCEPTED, True)
    assert seconds < 10
    assert not is_alive(pid)
    assert (room.logdir / "a" / "checkpoints").is_dir()


def test_one_of_two_workers_trains(room: Room, lone_worker: LoneWorker) -> None:
    """Two workers that start on one log directory: one trains, the other leaves the job alone."""
    other = LoneWorker(room)
    try:
        until_deployed(room)
        told = [worker.end() for worker in (lone_worker, other)]
    finally:
        other.close()

    nothing, events = sorted(told, key=len)
    assert nothing == []
    assert events.pop()["command"] == "reload-checkpoint"
    assert_whole_training(events, 12)


def until_deployed(room: Room) -> None:
    """Wait until all of the job is told."""
    deadline = time.monotonic() + WAIT_S
    while room.job("a").published_state is not JobState.FINISHED:
        assert time.monotonic() < deadline, f"not finished within {WAIT_S:g} s: {room.job('a')}"
        time.sleep(0.05)
