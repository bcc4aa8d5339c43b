"""Real trainings in real processes, under a real runner."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.job_room import LONG, PARAMS, Room


def oom_score_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


async def test_training_yields_to_serving(room: Room) -> None:
    """The process is niced, and the first to be ended when the machine's memory is short."""
    room.accept("a", LONG)
    async with room.runner(threads=1):
        await room.event("epoch")
        pid = room.processes[0].pid
        niceness, oom_score = psutil.Process(pid).nice(), oom_score_of(pid)

    assert (niceness, oom_score) == (10, 800)


async def test_a_killed_process_goes_on_from_its_checkpoint(room: Room) -> None:
    """Kill -9 of the process: the worker starts another, says why, and the job finishes."""
    room.accept("a", PARAMS | {"num_epochs": 4})
    async with room.runner():
        await room.event("checkpoint", 2)
        os.kill(room.processes[0].pid, signal.SIGKILL)
        resumed = await room.event("resumed")
        finished = await room.event("finished")

    assert "SIGKILL" in resumed["reason"]
    assert resumed["epoch"] >= 2
    assert finished["epoch"] == 4


async def test_signals_of_the_terminal_reach_the_worker_only(room: Room) -> None:
    """A Ctrl-C goes to the whole process group; the training takes its orders from the worker."""
    room.accept("a", PARAMS | {"num_epochs": 4})
    async with room.runner():
        pid = (await room.next_process()).pid
        os.kill(pid, signal.SIGINT)  # while it starts
        await room.event("epoch")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            os.kill(pid, number)
        await room.event("finished")

    assert [len(room.events_named(name)) for name in ("started", "resumed", "epoch")] == [1, 0, 4]


async def test_a_checkpoint_is_evaluated_while_another_job_trains(room: Room) -> None:
    """An evaluation has its own place, and brings figures for the whole and for each class."""
    room.accept("a", PARAMS)
    async with room.runner():
        finished = await room.event("finished")
        room.accept("long", LONG)
        room.accept("e", {}, kind="evaluation", checkpoint=finished["checkpoint"])
        evaluated = await room.event("evaluated")

    assert evaluated["images"] == 100
    assert evaluated["metrics"]["accuracy"] == pytest.approx(finished["metrics"]["accuracy"])
    assert len(evaluated["per_class"]) == 10
