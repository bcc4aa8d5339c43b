"""Processes that hang, die or fail, and machines that refuse: a job ends with its reason."""

from __future__ import annotations

from typing import Any

import pytest

from tests.job_room import Room, until
from tests.unit.worker.training.scripted_process import (
    Scripts,
    dies,
    dies_after_a_checkpoint,
    fails,
    hangs,
    scripted,
    trains,
)
from worker.training.jobs.job import JobState
from worker.training.jobs.ledger import Lock
from worker.training.process.messages import Task


async def test_a_process_that_will_not_stop_is_killed(room: Room) -> None:
    """A worker stops in its time also when the training does not; the job stays resumable."""
    scripted(room, hangs)
    room.accept("a")
    async with room.runner(scan_s=0.01, stop_timeout_s=0.05):
        await room.event("checkpoint")

    assert (room.job("a").state, room.job("a").crashes) == (JobState.ACCEPTED, 0)
    assert room.processes[0].is_closed


async def test_a_process_that_dies_is_replaced(room: Room) -> None:
    """The worker starts another, and says why."""
    scripted(room, dies_after_a_checkpoint, trains)
    room.accept("a")
    async with room.runner(scan_s=0.01):
        resumed = await room.event("resumed")
        await room.event("finished")

    assert "the process was ended by SIGKILL" in resumed["reason"]
    assert len(room.processes) == 2
    assert room.job("a").reason is None


async def test_a_process_that_always_dies_fails_its_job(room: Room) -> None:
    """Three crashes in a row are enough: the event names what ended it; the next job is done."""
    scripted(room, dies, dies, dies, trains)
    room.accept("a")
    async with room.runner(scan_s=0.01):
        failed = await room.event("failed")
        room.accept("b")
        await room.event("finished")

    assert "SIGABRT" in failed["reason"]
    assert "3 times without a new checkpoint" in failed["reason"]
    assert room.job("a").state is JobState.FAILED


async def test_crashes_are_counted_anew_after_a_checkpoint(room: Room) -> None:
    """A long job may crash now and then; what counts is whether it gets on."""
    scripted(room, dies, dies, dies_after_a_checkpoint, dies, trains)
    room.accept("a")
    async with room.runner(scan_s=0.01):
        await room.event("finished")

    assert len(room.processes) == 5


async def test_a_process_that_hangs_fails_its_job(room: Room) -> None:
    """Without a sign of life for too long it is killed, and the worker goes on."""
    scripted(room, hangs, trains)
    room.accept("a")
    async with room.runner(scan_s=0.01, hang_s=0.05):
        failed = await room.event("failed")
        room.accept("b")
        await room.event("finished")

    assert failed["reason"] == "no progress for 0.05 s; the process was ended"
    assert room.job("a").state is JobState.FAILED


async def test_what_the_process_finds_wrong_fails_its_job(room: Room) -> None:
    """The reason is in the event, once; what needs a traceback is in the log."""
    scripted(room, fails("data/train is empty", trace="Traceback: ..."))
    room.accept("a")
    async with room.runner(scan_s=0.01):
        failed = await room.event("failed")

    assert failed["reason"] == "data/train is empty"
    assert room.event_names == ["failed"]
    assert len(room.processes) == 1


async def test_an_error_of_the_program_is_logged_with_its_traceback(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever looks for the cause finds the place."""
    scripted(room, fails("IndexError: 7", trace="Traceback (most recent call last) ..."))
    room.accept("a")
    async with room.runner(scan_s=0.01):
        await room.event("failed")

    assert "job=a: Traceback (most recent call last)" in caplog.text


async def test_an_end_that_was_not_published_is_published_later(room: Room) -> None:
    """The worker died between the last epoch and the event: another one publishes and deploys."""
    best = "a/checkpoints/best.pt"
    room.accept("a", state=JobState.FINISHED, epoch=3, checkpoint=best, metrics={"accuracy": 0.9})
    room.accept("b", state=JobState.FAILED, reason="bad data")
    async with room.runner(scan_s=0.01):
        end = await room.event("finished")
        await room.event("failed")
        await until(lambda: not room.job("b").needs_work, "the note")

    assert (end["checkpoint"], end["metrics"]) == (best, {"accuracy": 0.9})
    assert [command.id for command in room.commands] == ["a-deploy"]
    assert room.processes == []


async def test_a_job_that_ends_workers_is_given_up(room: Room) -> None:
    """A job that takes its worker down each time is not adopted for ever."""
    room.accept("a", state=JobState.RUNNING, attempts=10)
    async with room.runner(scan_s=0.01):
        failed = await room.event("failed")

    assert "started 10 times" in failed["reason"]


async def test_a_job_that_somebody_works_on_is_left_alone(room: Room) -> None:
    """Workers share the ledger; the lock says who has a job, and when it is free."""
    room.accept("a")
    with room.ledger.lock("a"):  # type: ignore[union-attr]
        async with room.runner(scan_s=0.01):
            room.accept("b")
            await room.event("finished")

    assert {event["job"] for event in room.events} == {"b"}
    async with room.runner(scan_s=0.01):
        await room.event("finished", 2)


async def test_a_system_without_room_for_a_process_is_tried_again(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    """The job stays in the ledger until a process can be started."""
    refusals = [OSError(11, "Resource temporarily unavailable")]
    scripts = Scripts(trains)

    async def start(task: Task, lock: Lock) -> Any:
        if refusals:
            raise refusals.pop()
        return await scripts.start(task, lock)

    room.start_process = start
    room.accept("a")
    async with room.runner(scan_s=0.01, retry_s=0.01):
        await room.event("finished")

    assert "job=a: cannot be worked on now" in caplog.text
