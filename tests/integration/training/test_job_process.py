"""A real process keeps what the runner relies on, as the scripted one of the unit tests does."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable

import pytest

import trainer
from tests.job_room import LONG, PARAMS, Room
from tests.unit.worker.training.process_contract import ProcessContract, Start, first_epoch_of
from worker.training.job_process import JobProcess
from worker.training.process.messages import Task


@pytest.fixture
async def start(room: Room) -> AsyncIterator[Start]:
    processes: list[JobProcess] = []

    async def start(kind: str) -> JobProcess:
        room.accept("a", {"short": PARAMS, "long": LONG}[kind])
        task = Task(room.job("a"), room.logdir, room.datadir, threads=1)
        lock = room.ledger.lock("a")
        assert lock is not None
        with lock:
            processes.append(await JobProcess.start(task, lock))
        return processes[-1]

    yield start
    for process in processes:
        await process.close()


class TestJobProcess(ProcessContract):
    @pytest.fixture
    def suspend(self) -> Callable[[JobProcess], None]:
        return lambda process: os.kill(process.pid, signal.SIGSTOP)


async def test_a_stop_saves_what_was_learnt(start: Start, room: Room) -> None:
    """After a stop there is a checkpoint of the last epoch."""
    process = await start("long")
    messages = await first_epoch_of(process)
    process.stop(60.0)
    async for _ in messages:
        pass
    outcome = await process.outcome()

    checkpoint = trainer.load_checkpoint(room.logdir / str(outcome.best))
    assert outcome.epoch is not None
    assert 1 <= checkpoint.epoch <= outcome.epoch


async def test_a_process_holds_its_lock_until_it_is_dead(start: Start, room: Room) -> None:
    """Its worker has closed the lock, and nobody else can take the job while it runs."""
    process = await start("long")
    await first_epoch_of(process)
    while_it_runs = room.is_free("a")
    await process.close()

    assert (while_it_runs, room.is_free("a")) == (False, True)
