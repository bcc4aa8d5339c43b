"""What a runner relies on in a job's process; the real and the scripted process both keep it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from worker.training.job_process import JobProcess, ProcessDied, ProcessHung
from worker.training.process.messages import JobCheckpoint, JobEpoch, JobReport, JobStarted

WAIT_S = 60.0

Start = Callable[[str], Awaitable[JobProcess]]
"""Starts a process for a training that is "short" (3 epochs) or "long" (until it is stopped)."""


async def first_epoch_of(process: JobProcess) -> AsyncIterator[JobReport]:
    """Read up to the first checkpoint; return what follows."""
    messages = process.messages(WAIT_S)
    async for report in messages:
        if isinstance(report, JobCheckpoint):
            return messages
    raise AssertionError("the process ended before its first checkpoint")


class ProcessContract:
    """For test classes with a fixture `start` that gives processes which are closed at its end."""

    async def test_reports_come_in_order_and_then_the_outcome(self, start: Start) -> None:
        """A training says that it begins, then each epoch and checkpoint, and how it went."""
        process = await start("short")
        reports = [report async for report in process.messages(WAIT_S)]
        outcome = await process.outcome()

        epochs = [report.epoch for report in reports if isinstance(report, JobEpoch)]
        saved = [report.epoch for report in reports if isinstance(report, JobCheckpoint)]
        assert isinstance(reports[0], JobStarted)
        assert (epochs, saved) == ([1, 2, 3], [1, 2, 3])
        assert (outcome.status, outcome.epoch) == ("finished", 3)
        assert outcome.best == "a/checkpoints/best.pt"

    async def test_a_stop_saves_and_ends(self, start: Start) -> None:
        """Asked to stop, a training writes a checkpoint, reports it, and ends as stopped."""
        process = await start("long")
        messages = await first_epoch_of(process)
        process.stop(WAIT_S)
        last = [report async for report in messages][-1]

        assert isinstance(last, JobCheckpoint)
        assert (await process.outcome()).status == "stopped"

    async def test_a_killed_process_has_no_outcome(self, start: Start) -> None:
        """After a kill its messages end, and the error names the signal."""
        process = await start("long")
        messages = await first_epoch_of(process)
        process.kill()
        async for _ in messages:
            pass

        with pytest.raises(ProcessDied, match="the process was ended by SIGKILL"):
            await process.outcome()

    async def test_a_process_that_does_not_stop_in_time_is_killed(
        self, start: Start, suspend: Callable[[JobProcess], None]
    ) -> None:
        """The time that `stop` gives is all that it gets."""
        process = await start("long")
        messages = await first_epoch_of(process)
        suspend(process)
        process.stop(0.05)
        async with asyncio.timeout(WAIT_S / 2):
            async for _ in messages:
                pass

        with pytest.raises(ProcessDied, match="SIGKILL"):
            await process.outcome()

    async def test_silence_is_an_error(
        self, start: Start, suspend: Callable[[JobProcess], None]
    ) -> None:
        """A process that sends nothing at all for the given time counts as hung."""
        process = await start("long")
        await first_epoch_of(process)
        suspend(process)

        with pytest.raises(ProcessHung, match=r"no progress for 0\.2 s"):
            async for _ in process.messages(0.2):
                pass

    async def test_closing_ends_a_process(self, start: Start) -> None:
        """One that is still at work is not waited for."""
        process = await start("long")
        await first_epoch_of(process)
        async with asyncio.timeout(WAIT_S / 2):
            await process.close()


def public_methods(kind: type) -> dict[str, list[str]]:
    """Return the names of a class's public methods with those of their parameters."""
    return {
        name: list(inspect.signature(method).parameters)
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }
