"""How many messages have arrived at the other side in the bridge's benchmark, and how fast."""

from __future__ import annotations

import threading
import time

TIMEOUT_S = 120.0


class Arrivals:
    """Counts messages at the other side, and takes the time from the first to the last."""

    def __init__(self, n_messages: int) -> None:
        self._n_messages = n_messages
        self._count = 0
        self._n_first = 0
        self._first_at = self._last_at = 0.0
        self._lock = threading.Lock()
        self._all = threading.Event()

    @property
    def are_all(self) -> bool:
        return self._all.is_set()

    def add(self, n_messages: int) -> None:
        """Count messages that have just arrived."""
        if not n_messages:
            return
        with self._lock:
            self._last_at = time.perf_counter()
            if not self._count:
                self._first_at, self._n_first = self._last_at, n_messages
            self._count += n_messages
            if self._count >= self._n_messages:
                self._all.set()

    def rate(self) -> float:
        """Wait for the last message, and return the messages per second after the first ones."""
        if not self._all.wait(TIMEOUT_S):
            raise RuntimeError(
                f"{self._count} of {self._n_messages} messages arrived within {TIMEOUT_S:g} s"
            )
        return (self._count - self._n_first) / (self._last_at - self._first_at)
