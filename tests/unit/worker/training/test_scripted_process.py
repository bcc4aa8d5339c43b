"""The scripted process of these tests keeps what a real process promises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.unit.worker.training.process_contract import (
    ProcessContract,
    Start,
    public_methods,
)
from tests.unit.worker.training.scripted_process import (
    ScriptedProcess,
    hangs,
    trains,
    trains_until_stopped,
)
from worker.training.job_process import JobProcess
from worker.training.jobs.job import Job
from worker.training.process.messages import Task


class TestScriptedProcess(ProcessContract):
    @pytest.fixture
    async def start(self, request: pytest.FixtureRequest) -> AsyncIterator[Start]:
        task = Task(Job(name="a"), Path("logs"), Path("data"), 1)
        is_suspended = "suspend" in request.fixturenames
        scripts = {"short": trains, "long": hangs if is_suspended else trains_until_stopped}
        processes = []

        async def start(kind: str) -> ScriptedProcess:
            processes.append(ScriptedProcess(scripts[kind], task))
            return processes[-1]

        yield start
        for process in processes:
            await process.close()

    @pytest.fixture
    def suspend(self) -> Callable[[ScriptedProcess], None]:
        return lambda process: None  # its script does nothing after the first checkpoint


def test_it_has_the_methods_of_a_real_one() -> None:
    """A method that the real process gets must be scripted too."""
    assert public_methods(ScriptedProcess) == public_methods(JobProcess)
