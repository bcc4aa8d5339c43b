"""What ends a worker that can no longer do its work."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from worker.runtime import watchdog
from worker.runtime.watchdog import (
    EXIT_CODE,
    Watchdog,
    coordinator_problem,
    loop_problem,
    stop_problem,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "POLL_S", 0.01)


class Ending:
    """Takes the place of `os._exit`."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.has_come = threading.Event()

    def __call__(self, code: int) -> None:
        self.code = code
        self.has_come.set()


def test_a_problem_that_lasts_ends_the_process() -> None:
    """The exit code is not zero, so that a supervisor starts the worker again."""
    ending = Ending()
    dog = Watchdog({lambda: "it is broken": 0.02}, end=ending)
    dog.start()
    assert ending.has_come.wait(5)
    dog.join(5)
    assert ending.code == EXIT_CODE


def test_the_stacks_of_all_threads_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    """Who reads the log sees where the process hung."""
    ending = Ending()
    dog = Watchdog({lambda: "it is broken": 0.0}, end=ending)
    dog.start()
    dog.join(5)
    told = capfd.readouterr().err
    assert "watchdog.py" in told
    assert "test_watchdog.py" in told


def test_a_problem_that_passes_does_not() -> None:
    """Only what lasts on end counts."""
    ending = Ending()
    looks = iter(["it is broken", None] * 20)
    over = threading.Event()

    def check() -> str | None:
        problem = next(looks, "over")
        if problem == "over":
            over.set()
            return None
        return problem

    dog = Watchdog({check: 0.05}, end=ending)
    dog.start()
    assert over.wait(5)
    dog.stop()
    dog.join(5)
    assert ending.code is None


def app_with(coordinator: Any) -> Any:
    consumer = SimpleNamespace(_consumer=SimpleNamespace(_coordinator=coordinator))
    return SimpleNamespace(_consumer=SimpleNamespace(_thread=consumer), should_stop=False)


def coordinator(*, closing: bool = False, failed: Any = None, ended: bool = False) -> Any:
    return SimpleNamespace(
        _closing=SimpleNamespace(done=lambda: closing),
        _pending_exception=failed,
        _coordination_task=SimpleNamespace(done=lambda: ended),
    )


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (coordinator(), None),
        (coordinator(closing=True, ended=True), None),
        (coordinator(failed=OSError("no")), "the group coordinator failed: OSError('no')"),
        (coordinator(ended=True), "the group coordinator has ended"),
        (None, None),
    ],
)
def test_a_coordinator_that_failed_is_noticed(state: Any, said: str | None) -> None:
    """Faust does not notice: it stays up and consumes nothing."""
    assert coordinator_problem(app_with(state))() == said


def test_a_stop_that_lasts_is_noticed() -> None:
    """Its grace is the time that a stop may take."""
    app = app_with(None)
    assert stop_problem(app)() is None
    app.should_stop = True
    assert stop_problem(app)() == "it was told to stop and has not"


async def test_a_blocked_loop_is_noticed() -> None:
    """A loop that did not run between two looks is blocked."""
    check = loop_problem(SimpleNamespace(loop=asyncio.get_running_loop()))  # type: ignore[arg-type]
    assert check() is None
    assert check() == "the event loop is blocked"
    await asyncio.sleep(0)
    assert check() is None


def test_a_closed_loop_is_no_blocked_one() -> None:
    """A worker that has stopped is looked at until its process ends."""
    loop = asyncio.new_event_loop()
    check = loop_problem(SimpleNamespace(loop=loop))  # type: ignore[arg-type]
    loop.close()
    assert check() is None
    assert check() is None
