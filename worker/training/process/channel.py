"""The end of a connection that is in a job's process; at the other end is what started it."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable

from worker.training.process.messages import ProcessMessage, Pulse, Stop, from_line, to_line

__all__ = ["Channel"]

PULSE_S = 1.0


class Channel:
    """Sends messages to the worker, and receives its request to stop.

    The end of the stream means that the worker is dead, and then this process ends too. For one of
    several processes of a job, its launcher stands at the worker's place.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._stop = threading.Event()
        self._pulsed_at = 0.0

    def receive_lock(self) -> int:
        """Return the descriptor of the job's lock, which is held as long as this process lives."""
        _, descriptors, _, _ = socket.recv_fds(self._socket, 1, 1)
        if not descriptors:
            os._exit(1)  # the worker died before it could send the descriptor
        return descriptors[0]

    def listen(self, on_stop: Callable[[], None] = lambda: None) -> None:
        """Begin to receive, in a thread.

        Args:
            on_stop: Called in that thread when the worker asks for a stop.
        """
        threading.Thread(target=self._listen, args=(on_stop,), name="worker", daemon=True).start()

    def _listen(self, on_stop: Callable[[], None]) -> None:
        with contextlib.suppress(OSError):
            for line in self._socket.makefile("rb"):
                if isinstance(from_line(line), Stop):
                    self._stop.set()
                    on_stop()
        os._exit(1)  # without clean-up: another worker goes on from the last checkpoint

    def send(self, message: ProcessMessage) -> None:
        """Send a message; blocks while the worker does not keep up."""
        self._socket.sendall(to_line(message))

    def should_stop(self) -> bool:
        """Whether the worker has asked for a stop; to call this also sends the sign of life."""
        now = time.monotonic()
        if now - self._pulsed_at >= PULSE_S:
            self._pulsed_at = now
            self.send(Pulse())
        return self._stop.is_set()

    def close_sending(self) -> None:
        """End the stream to the worker; the worker's death is still noticed."""
        self._socket.shutdown(socket.SHUT_WR)
