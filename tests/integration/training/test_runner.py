"""Real trainings in real processes: they end in an event, whatever befalls them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

import trainer
from tests.integration.training.rooms import LONG, PARAMS, Room, is_alive, until
from worker.testing.digits import write_digits
from worker.training.jobs import JobState
from worker.training.runner import Runner


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_digits(folder, 500, 100)
    return folder


@pytest.fixture
def room(tmp_path: Path, data: Path) -> Room:
    return Room(tmp_path / "logs", data)


async def pid_of(runner: Runner, name: str) -> int:
    await until(lambda: name in runner.running, f"{name} to run")
    return runner.running[name]


async def test_a_training_is_told_from_start_to_end(room: Room) -> None:
    """A job's events come in order, an epoch at least each, and its best checkpoint is deployed."""
    room.accept("a")
    async with room.runner():
        finished = await room.heard("finished")

    names = [event["event"] for event in room.events]
    assert names == ["started", *["epoch", "checkpoint"] * 3, "finished"]
    assert all((event["job"], event["id"]) == ("a", "a") for event in room.events)
    assert [event["epoch"] for event in room.told("epoch")] == [1, 2, 3]
    assert finished["checkpoint"] == "a/checkpoints/best.pt"
    assert trainer.load_checkpoint(room.logdir / finished["checkpoint"]).epoch <= 3
    assert [(command.command, command.id) for command in room.commands] == [
        ("reload-checkpoint", "a-deploy")
    ]
    job = room.job("a")
    assert (job.state, job.told, job.epoch) == (JobState.FINISHED, JobState.FINISHED, 3)
    assert room.is_free("a")


def oom_score_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


async def test_training_gives_way(room: Room) -> None:
    """The process is niced, and the first to be ended when the machine's memory is short."""
    room.accept("a", LONG)
    async with room.runner(threads=1) as runner:
        await room.heard("epoch")
        pid = await pid_of(runner, "a")
        niceness, oom_score = psutil.Process(pid).nice(), oom_score_of(pid)

    assert (niceness, oom_score) == (10, 800)


async def test_jobs_of_a_kind_wait_for_each_other(room: Room) -> None:
    """One training at a time; the oldest comes first."""
    for name in ("first", "second"):
        room.accept(name, PARAMS | {"num_epochs": 1})
    async with room.runner():
        await room.heard("finished", 2)

    told = [(event["event"], event["job"]) for event in room.events]
    assert told.index(("finished", "first")) < told.index(("started", "second"))


async def test_a_cancelled_job_keeps_its_checkpoint(room: Room) -> None:
    """stop-training saves what was learnt, frees the worker, and the job never comes back."""
    room.accept("a", LONG)
    async with room.runner() as runner:
        await room.heard("epoch", 2)
        room.ledger.ask_to_stop("a", "stop-1")
        runner.cancel("a", "stop-1")
        cancelled = await room.heard("cancelled")
        await until(lambda: not runner.running, "the process to end")
        room.accept("b", PARAMS | {"num_epochs": 1})
        await room.heard("finished")

    assert (cancelled["id"], cancelled["job"]) == ("stop-1", "a")
    assert cancelled["epoch"] >= 2
    assert room.job("a").state is JobState.CANCELLED
    assert trainer.load_checkpoint(room.logdir / "a/checkpoints/best.pt")


async def test_a_stop_that_only_the_ledger_knows_is_heard(room: Room) -> None:
    """A job is stopped also when its worker missed the command, or took the job up after it."""
    room.accept("running", LONG)
    async with room.runner():
        await room.heard("epoch")
        room.ledger.ask_to_stop("running", "stop-1")
        await room.heard("cancelled")
        room.ledger.folder("waiting").mkdir()
        room.ledger.ask_to_stop("waiting", "stop-2")
        room.accept("waiting", LONG)
        cancelled = await room.heard("cancelled", 2)

    assert (cancelled["id"], cancelled["job"]) == ("stop-2", "waiting")
    assert len(room.told("started")) == 1


async def test_a_worker_that_stops_leaves_its_job_to_the_next(room: Room) -> None:
    """The job is saved in time and goes on where it was; nothing of it is told as an end."""
    room.accept("a", PARAMS | {"num_epochs": 8})
    async with room.runner("worker-1") as runner:
        await room.heard("epoch", 2)
        pid = await pid_of(runner, "a")
        begin = time.monotonic()
    seconds = time.monotonic() - begin
    left = (room.job("a").state, room.is_free("a"), is_alive(pid))
    async with room.runner("worker-2"):
        resumed = await room.heard("resumed")
        finished = await room.heard("finished")

    assert left == (JobState.ACCEPTED, True, False)
    assert seconds < 8
    assert resumed["epoch"] >= 2
    assert (finished["epoch"], finished["worker"]) == (8, "worker-2")
    assert [event["epoch"] for event in room.told("epoch")] == list(range(1, 9))


async def test_a_process_that_will_not_stop_is_killed(room: Room) -> None:
    """A worker stops in its time also when the training does not; the job stays resumable."""
    room.accept("a", LONG)
    async with room.runner(stop_timeout_s=1.0) as runner:
        await room.heard("checkpoint")
        pid = await pid_of(runner, "a")
        os.kill(pid, signal.SIGSTOP)
        begin = time.monotonic()

    assert time.monotonic() - begin < 4
    assert (room.job("a").state, is_alive(pid)) == (JobState.ACCEPTED, False)


async def test_a_killed_process_goes_on_from_its_checkpoint(room: Room) -> None:
    """Kill -9 of the process: the worker starts another, says why, and the job finishes."""
    room.accept("a", PARAMS | {"num_epochs": 4})
    async with room.runner() as runner:
        await room.heard("checkpoint", 2)
        os.kill(await pid_of(runner, "a"), signal.SIGKILL)
        resumed = await room.heard("resumed")
        finished = await room.heard("finished")

    assert "SIGKILL" in resumed["reason"]
    assert resumed["epoch"] >= 2
    assert finished["epoch"] == 4


async def test_a_process_that_always_dies_fails_its_job(room: Room) -> None:
    """Three crashes in a row are enough: the event names what ended it; the next job is done."""
    room.accept("a", LONG)
    async with room.runner() as runner:
        for crashes in range(3):
            await until(lambda n=crashes: room.job("a").attempts == n + 1, "another attempt")
            os.kill(await pid_of(runner, "a"), signal.SIGABRT)
            await until(lambda n=crashes: room.job("a").crashes == n + 1, "the crash to be seen")
        failed = await room.heard("failed")
        room.accept("b", PARAMS | {"num_epochs": 1})
        await room.heard("finished")

    assert "SIGABRT" in failed["reason"]
    assert "3 times" in failed["reason"]
    assert room.job("a").state is JobState.FAILED


async def test_a_process_that_hangs_fails_its_job(room: Room) -> None:
    """Without a sign of life for too long it is killed, and the worker goes on."""
    room.accept("a", LONG)
    async with room.runner(hang_s=15.0) as runner:
        await room.heard("epoch")
        pid = await pid_of(runner, "a")
        os.kill(pid, signal.SIGSTOP)
        failed = await room.heard("failed")
        await until(lambda: not is_alive(pid), "the process to be gone")

    assert "no progress for" in failed["reason"]
    assert room.job("a").state is JobState.FAILED


async def test_too_large_a_net_fails_its_job(room: Room) -> None:
    """A net that does not fit into memory is an event with a remedy, not the end of the worker."""
    giant = {
        "class": "torch.nn.Conv2d",
        "kwargs": {"in_channels": 1, "out_channels": 10**10, "kernel_size": 28},
    }
    room.accept("a", LONG | {"net_arch": [giant]})
    async with room.runner():
        failed = await room.heard("failed")

    assert "not enough memory" in failed["reason"]
    assert "smaller" in failed["reason"]


async def test_bad_data_fails_its_job_with_every_finding(room: Room, tmp_path: Path) -> None:
    """What the trainer finds wrong with the images is in the event."""
    room.accept("a")
    async with room.runner(datadir=tmp_path / "nowhere"):
        failed = await room.heard("failed")

    assert "nowhere" in failed["reason"]
    assert len(room.told("failed")) == 1


async def test_signals_of_the_terminal_reach_the_worker_only(room: Room) -> None:
    """A Ctrl-C goes to the whole process group; the training takes its orders from the worker."""
    room.accept("a", PARAMS | {"num_epochs": 4})
    async with room.runner() as runner:
        pid = await pid_of(runner, "a")
        os.kill(pid, signal.SIGINT)  # while it starts
        await room.heard("epoch")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            os.kill(pid, number)
        await room.heard("finished")

    assert [len(room.told(name)) for name in ("started", "resumed", "epoch")] == [1, 0, 4]


async def test_an_end_that_nobody_heard_of_is_told_later(room: Room) -> None:
    """The worker died between the last epoch and the event: another tells it, and deploys."""
    best = "a/checkpoints/best.pt"
    room.accept("a", state=JobState.FINISHED, epoch=3, checkpoint=best, metrics={"accuracy": 0.9})
    room.accept("b", state=JobState.FAILED, reason="bad data")
    async with room.runner():
        finished = await room.heard("finished")
        await room.heard("failed")
        await until(lambda: room.job("b").told is JobState.FAILED, "the note")

    assert (finished["checkpoint"], finished["metrics"]) == (best, {"accuracy": 0.9})
    assert [command.id for command in room.commands] == ["a-deploy"]


async def test_a_job_that_ends_workers_is_given_up(room: Room) -> None:
    """A job that takes its worker down each time is not adopted for ever."""
    room.accept("a", state=JobState.RUNNING, attempts=10)
    async with room.runner():
        failed = await room.heard("failed")

    assert "started 10 times" in failed["reason"]


async def test_a_checkpoint_is_evaluated_while_another_job_trains(room: Room) -> None:
    """An evaluation has its own place, and brings figures for the whole and for each class."""
    room.accept("a", PARAMS)
    async with room.runner():
        finished = await room.heard("finished")
        room.accept("long", LONG)
        room.accept("e", {}, kind="evaluation", checkpoint=finished["checkpoint"])
        evaluated = await room.heard("evaluated")

    assert evaluated["images"] == 100
    assert evaluated["metrics"]["accuracy"] == pytest.approx(finished["metrics"]["accuracy"])
    assert len(evaluated["per_class"]) == 10


async def test_an_evaluation_of_nothing_fails(room: Room) -> None:
    """A checkpoint that is not there is named in the event."""
    room.accept("e", {}, kind="evaluation", checkpoint="a/checkpoints/best.pt")
    async with room.runner():
        failed = await room.heard("failed")

    assert "best.pt" in failed["reason"]
