"""Ends the process when it can no longer do its work, so that its supervisor starts it again.

A thread of its own, since what it watches may block the event loop or keep it from starting.
Faust alone stays up as a zombie when its group coordinator has failed: it never consumes again.
"""

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import faust

from worker.part import Check

__all__ = ["EXIT_CODE", "Watchdog", "coordinator_problem", "loop_problem", "stop_problem"]

logger = logging.getLogger(__name__)

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h."""
POLL_S = 1.0


class Watchdog(threading.Thread):
    """Ends the process when a check fails for longer than it may."""

    def __init__(
        self,
        checks: Mapping[Check, float] = MappingProxyType({}),
        *,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        """Take each check with the seconds for which it may fail on end, and how to end."""
        super().__init__(name="watchdog", daemon=True)
        self._checks = dict(checks)
        self._end = end
        self._is_over = threading.Event()
        self.problems: Sequence[str] = ()
        """What the last look found."""

    def run(self) -> None:
        """Look once a second until `stop`."""
        failing_since: dict[Check, float] = {}
        while not self._is_over.wait(POLL_S):
            found = {check: problem for check in self._checks if (problem := check())}
            self.problems = tuple(found.values())
            now = time.monotonic()
            failing_since = {check: failing_since.get(check, now) for check in found}
            for check, problem in found.items():
                if now - failing_since[check] >= self._checks[check]:
                    logger.critical("watchdog: %s; the worker ends with %d", problem, EXIT_CODE)
                    try:
                        write_stacks()
                    finally:
                        logging.shutdown()
                        self._end(EXIT_CODE)
                    return

    def stop(self) -> None:
        """Look no more."""
        self._is_over.set()


def write_stacks() -> None:
    """Write where each thread is to the process's stderr; Faust's stand-in for it is no file."""
    if sys.__stderr__ is not None:
        faulthandler.dump_traceback(sys.__stderr__)


def coordinator_problem(app: faust.App) -> Check:
    """Check that the consumer's place in its group is still looked after."""

    def check() -> str | None:
        coordinator = _coordinator(app)
        if coordinator is None or coordinator._closing.done():  # noqa: SLF001
            return None
        if coordinator._pending_exception is not None:  # noqa: SLF001
            return f"the group coordinator failed: {coordinator._pending_exception!r}"  # noqa: SLF001
        if coordinator._coordination_task.done():  # noqa: SLF001
            return "the group coordinator has ended"
        return None

    return check


def _coordinator(app: faust.App) -> Any:
    consumer = app._consumer  # noqa: SLF001 - the property would make one
    thread = getattr(consumer, "_thread", None)
    return getattr(getattr(thread, "_consumer", None), "_coordinator", None)


def stop_problem(app: faust.App) -> Check:
    """Report that a stop was requested; the check's grace is the time that a stop may take."""

    def check() -> str | None:
        return "it was told to stop and has not" if app.should_stop else None

    return check


def loop_problem(app: faust.App) -> Check:
    """Check that the event loop runs what it is given from one look to the next."""
    has_answered = threading.Event()
    has_answered.set()

    def check() -> str | None:
        if not has_answered.is_set():
            return "the event loop is blocked"
        has_answered.clear()
        try:
            app.loop.call_soon_threadsafe(has_answered.set)
        except RuntimeError:  # it is closed: the worker stops, and that has a check of its own
            has_answered.set()
        return None

    return check
