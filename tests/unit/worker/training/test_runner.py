"""A job comes to its end and to an event, whatever happens to its processes and workers."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tests.job_room import Room, until
from tests.unit.worker.training.scripted_process import (
    ScriptedProcess,
    checkpoint,
    epoch,
    finished,
    scripted,
    started,
    trains,
    trains_until_stopped,
)
from worker.training.jobs.job import JobState
from worker.training.process.messages import Outcome, ProcessMessage


async def test_a_training_is_published_from_start_to_end(room: Room) -> None:
    """A job's events come in order, and its best checkpoint is deployed."""
    room.accept("a")
    async with room.runner(scan_s=0.01, threads=3):
        end = await room.event("finished")
        await until(lambda: not room.job("a").needs_work, "the end to be noted")

    assert room.event_names == ["started", *["epoch", "checkpoint"] * 3, "finished"]
    assert all((event["job"], event["id"]) == ("a", "a") for event in room.events)
    assert (end["checkpoint"], end["metrics"]) == ("a/checkpoints/best.pt", {"accuracy": 0.8})
    assert [command.id for command in room.commands] == ["a-deploy"]
    assert (room.job("a").state, room.job("a").epoch) == (JobState.FINISHED, 3)
    assert room.is_free("a")
    assert [process.task.threads for process in room.processes] == [3]


async def test_jobs_of_a_kind_wait_for_each_other(room: Room) -> None:
    """One training at a time; the oldest comes first."""
    room.accept("second", accepted_at=2.0)
    room.accept("first", accepted_at=1.0)
    async with room.runner(scan_s=0.01):
        await room.event("finished", 2)

    order = [(event["event"], event["job"]) for event in room.events]
    assert order.index(("finished", "first")) < order.index(("started", "second"))


async def test_an_evaluation_does_not_wait_for_a_training(room: Room) -> None:
    """Each kind of job has a place of its own."""

    async def evaluates(_process: ScriptedProcess) -> AsyncIterator[ProcessMessage]:
        yield Outcome(status="finished", images=100, metrics={"accuracy": 0.9})

    scripted(room, trains_until_stopped, evaluates)
    room.accept("long")
    async with room.runner(scan_s=0.01):
        await room.event("checkpoint")
        room.accept("e", {}, kind="evaluation", checkpoint="long/checkpoints/best.pt")
        evaluated = await room.event("evaluated")

    assert (evaluated["id"], evaluated["images"]) == ("e", 100)
    assert "finished" not in room.event_names


async def test_a_cancelled_job_frees_the_worker(room: Room) -> None:
    """stop-training ends a job for good; the event has the command's id, and the next job runs."""
    scripted(room, trains_until_stopped, trains)
    room.accept("a")
    async with room.runner(scan_s=0.01) as runner:
        await room.event("checkpoint")
        room.ledger.request_stop("a", "stop-1")
        runner.cancel("a", "stop-1")
        cancelled = await room.event("cancelled")
        room.accept("b")
        await room.event("finished")

    assert (cancelled["id"], cancelled["job"], cancelled["epoch"]) == ("stop-1", "a", 2)
    assert cancelled["checkpoint"] == "a/checkpoints/epoch-00001.pt"
    assert room.job("a").state is JobState.CANCELLED


async def test_a_stop_that_only_the_ledger_knows_is_done(room: Room) -> None:
    """A worker that missed the command finds it beside the job when the process next reports."""

    async def trains_on(process: ScriptedProcess) -> AsyncIterator[ProcessMessage]:
        yield started()
        yield epoch(1)
        room.ledger.request_stop("a", "stop-1")
        yield epoch(2)
        await process.is_asked_to_stop.wait()
        yield Outcome(status="stopped", epoch=2, num_epochs=3)

    scripted(room, trains_on)
    room.accept("a")
    async with room.runner(scan_s=0.01):
        cancelled = await room.event("cancelled")

    assert cancelled["id"] == "stop-1"


async def test_a_job_that_was_cancelled_while_it_waited_is_never_started(room: Room) -> None:
    """A worker that takes up the job after the command only publishes its end."""
    room.ledger.folder("waiting").mkdir(parents=True)
    room.ledger.request_stop("waiting", "stop-2")
    room.accept("waiting")
    async with room.runner(scan_s=0.01):
        cancelled = await room.event("cancelled")

    assert (cancelled["id"], cancelled["job"]) == ("stop-2", "waiting")
    assert room.processes == []


async def test_a_job_that_finished_before_the_stop_is_finished(room: Room) -> None:
    """A stop that comes too late takes nothing away."""

    async def finishes_all_the_same(process: ScriptedProcess) -> AsyncIterator[ProcessMessage]:
        yield started()
        yield epoch(3)
        room.ledger.request_stop("a", "stop-1")
        yield checkpoint(process.task, 3)
        yield finished(process.task)

    scripted(room, finishes_all_the_same)
    room.accept("a")
    async with room.runner(scan_s=0.01):
        await room.event("finished")

    assert "cancelled" not in room.event_names


async def test_a_worker_that_stops_leaves_its_job_to_the_next(room: Room) -> None:
    """The job is saved and goes on elsewhere; no event says that it ended."""

    async def goes_on(process: ScriptedProcess) -> AsyncIterator[ProcessMessage]:
        yield started(resumed=True, first_epoch=2)
        yield epoch(3)
        yield finished(process.task)

    scripted(room, trains_until_stopped, goes_on)
    room.accept("a")
    async with room.runner("worker-1", scan_s=0.01):
        await room.event("checkpoint")
    left = room.job("a")
    async with room.runner("worker-2", scan_s=0.01):
        resumed = await room.event("resumed")
        end = await room.event("finished")

    assert (left.state, left.attempts, left.epoch) == (JobState.ACCEPTED, 0, 2)
    assert (resumed["epoch"], resumed["worker"], end["worker"]) == (2, "worker-2", "worker-2")
    assert "reason" not in resumed
