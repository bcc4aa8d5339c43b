"""Ctrl-C and SIGTERM ask a run to stop; a second signal ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

__all__ = ["StopRequested", "StopSignals", "stop_requests"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequested(Exception):  # noqa: N818 - not an error
    """Raised to give up work because the run was asked to stop."""


@contextmanager
def stop_requests(should_stop: Callable[[], bool] | None) -> Iterator[Callable[[], bool]]:
    """Yield the function that returns whether to stop.

    It is the caller's, if there is one, else one that returns whether a signal was received.
    """
    if should_stop is not None:
        yield should_stop
        return
    with StopSignals() as signals:
        yield signals.should_stop


class StopSignals:
    """A context that remembers the first signal instead of ending the program.

    The second signal has its usual effect. Outside the main thread no signal is caught.

    Attributes:
        number: The signal that was received, or None.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._handlers: dict[int, Any] = {}

    def should_stop(self) -> bool:
        """Return whether a signal was received."""
        return self.number is not None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {
                number: signal.signal(number, self._remember)
                for number in SIGNALS
                if signal.getsignal(number)
                is not signal.SIG_IGN  # nohup and the worker ignore signals
            }
        return self

    def __exit__(self, *_: object) -> None:
        self._restore_handlers()

    def _remember(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's signature
        self.number = number
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
