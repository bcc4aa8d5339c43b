"""Ctrl-C and SIGTERM ask a run to stop; a second one ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequested(Exception):  # noqa: N818 - says what happened
    """What was being done was given up because the run was asked to stop."""


@contextmanager
def stop_requests(should_stop: Callable[[], bool] | None) -> Iterator[Callable[[], bool]]:
    """Give what tells whether to stop: the caller's own, else whether a signal has come."""
    if should_stop is not None:
        yield should_stop
        return
    with StopSignals() as signals:
        yield signals.should_stop


class StopSignals:
    """While entered, the first signal is noted; outside the main thread nothing is caught.

    Attributes:
        number: The signal that came, or None.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def should_stop(self) -> bool:
        """Tell whether a signal came."""
        return self.number is not None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {
                number: signal.signal(number, self._note)
                for number in SIGNALS
                if signal.getsignal(number) is not signal.SIG_IGN  # as nohup and the worker want it
            }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._put_back()

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature
        self.number = number
        self._put_back()

    def _put_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
