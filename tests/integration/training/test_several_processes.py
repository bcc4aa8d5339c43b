"""Trainings by two processes: the weights of one, and nothing lost or left, whatever dies."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

import trainer
from tests.job_room import Room, is_alive, spawned_by, until
from worker.training.job_process import JobProcess, ProcessDied, ProcessHung
from worker.training.process.messages import JobEpoch, Task

EPOCHS = 12
# 500 images in batches of 35: the last batch has 10, and each process gets 17 or 18 of the others.
PARAMS: dict[str, Any] = {
    "batch_size": 35,
    "device": "cpu",
    "eval_batch_size": 100,
    "eval_freq": 1,
    "learning_rate": 0.02,
    "net_arch": [
        {
            "class": "torch.nn.Conv2d",
            "kwargs": {"in_channels": 1, "out_channels": 8, "kernel_size": 5, "stride": 2},
        },
        {"class": "torch.nn.BatchNorm2d", "kwargs": {"num_features": 8}},
        {"class": "torch.nn.ELU"},
    ],
    "num_epochs": EPOCHS,
    "precision": "float32",
    "save_freq": 1,
}
LONG = PARAMS | {"num_epochs": 10_000}


Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """The weights that one process ends with."""
    logdir = tmp_path_factory.mktemp("alone")
    trainer.fit(PARAMS, data, logdir, should_stop=lambda: False)
    return weights(logdir)


def oom_score_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def weights(logdir: Path) -> Weights:
    path = logdir / "checkpoints" / f"epoch-{EPOCHS:05d}.pt"
    found: Weights = trainer.load_checkpoint(path).content["model"]
    return found


def assert_alike(one: Weights, other: Weights) -> None:
    for name, expected in one.items():
        assert (expected.float() - other[name].float()).abs().max() < 5e-4, name


async def test_a_job_goes_on_whichever_of_its_processes_is_killed(
    room: Room, alone: Weights
) -> None:
    """Kill -9 of rank 1 and of the launcher: resumed each time, and the same weights."""
    room.accept("a", PARAMS, processes=2)
    async with room.runner():
        for count, victim in enumerate(("rank 1", "launcher"), 1):
            await room.event("checkpoint", len(room.events_named("checkpoint")) + 1)
            launcher = room.processes[-1].pid
            ranks = spawned_by(launcher)
            os.kill({"rank 1": ranks[1], "launcher": launcher}[victim], signal.SIGKILL)
            resumed = await room.event("resumed", count)
            assert "SIGKILL" in resumed["reason"], victim
            assert resumed["epoch"] >= count, victim
            assert not any(is_alive(rank) for rank in ranks), victim
        await room.event("finished")

    assert len(room.processes) == 3
    assert_alike(alone, weights(room.logdir / "a"))


async def test_every_process_yields_to_serving_and_listens_to_the_worker_only(room: Room) -> None:
    """Niceness, memory and threads hold for each; signals do not; a stop saves and ends all."""
    room.accept("a", LONG, processes=2)
    async with room.runner(threads=4) as runner:
        await room.event("epoch")
        launcher = room.processes[0].pid
        pids = [launcher, *spawned_by(launcher)]
        for pid in pids:
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
        await room.event("epoch", len(room.events_named("epoch")) + 2)
        processes = [psutil.Process(pid) for pid in pids]
        niceness = [process.nice() for process in processes]
        oom_scores = [oom_score_of(pid) for pid in pids]
        threads = [process.environ().get("OMP_NUM_THREADS") for process in processes[1:]]
        addresses = {
            connection.laddr.ip.removeprefix("::ffff:")
            for process in processes
            for connection in process.net_connections("inet")
        }
        runner.cancel("a", "stop-1")
        cancelled = await room.event("cancelled")
        await until(lambda: not any(is_alive(pid) for pid in pids), "the processes to end", 10.0)

    assert niceness == [10, 10, 10]
    assert oom_scores == [800, 800, 800]
    assert threads == ["2", "2"]
    assert addresses == {"127.0.0.1"}  # nobody outside this machine can take part
    assert cancelled["epoch"] >= 3
    assert trainer.load_checkpoint(room.logdir / "a/checkpoints/best.pt")
    assert room.events_named("resumed") == []


async def start_together(room: Room) -> JobProcess:
    """Start a long training by two processes, without a runner."""
    room.accept("a", LONG, processes=2)
    task = Task(room.job("a"), room.logdir, room.datadir, threads=2)
    with room.ledger.lock("a") as lock:  # type: ignore[union-attr]
        return await JobProcess.start(task, lock)


async def test_a_rank_that_dies_while_it_starts_is_noticed(room: Room) -> None:
    """The others do not wait for it, and the reason is known."""
    process = await start_together(room)
    try:
        await until(lambda: len(spawned_by(process.pid)) == 2, "the ranks to be started")
        os.kill(spawned_by(process.pid)[0], signal.SIGKILL)
        async with asyncio.timeout(25.0):  # torch's launcher gives the others 30 s to end
            async for _ in process.messages(60.0):
                pass
        with pytest.raises(ProcessDied, match="process 1 of 2 was ended by SIGKILL"):
            await process.outcome()
    finally:
        await process.close()


async def test_a_rank_that_hangs_is_noticed(room: Room) -> None:
    """The others wait for it, so that the job goes silent; closing its process ends them all."""
    process = await start_together(room)
    try:
        async for report in process.messages(60.0):
            if isinstance(report, JobEpoch):
                break
        pids = [process.pid, *spawned_by(process.pid)]
        os.kill(pids[2], signal.SIGSTOP)
        with pytest.raises(ProcessHung):
            async for _ in process.messages(1.5):  # a pulse comes once per second
                pass
    finally:
        await process.close()

    await until(lambda: not any(is_alive(pid) for pid in pids), "the processes to end", 10.0)
    await until(lambda: room.is_free("a"), "the lock to be free", 10.0)  # with their last threads


async def test_bad_data_fails_the_job_once(room: Room, tmp_path: Path) -> None:
    """Each rank finds the same; one event says it."""
    room.accept("a", PARAMS, processes=2)
    async with room.runner(datadir=tmp_path / "nowhere"):
        failed = await room.event("failed")

    assert "nowhere" in failed["reason"]
    assert room.event_names == ["failed"]
    assert len(room.processes) == 1
