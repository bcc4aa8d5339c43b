"""What happens in the worker, told on the events topic: one JSON object an event.

A publish returns when the broker has confirmed the event, so that whoever acknowledges a command
after it never loses the answer.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

__all__ = ["EventPublisher", "Send"]

Send = Callable[[bytes, bytes], Awaitable[object]]
"""Sends one message (key, value) and returns when the broker has confirmed it."""


class EventPublisher:
    """Publishes events in this worker's name.

    Args:
        send: Sends a key and a value to the events topic and waits for the confirmation.
        worker: This worker's id, in every event.
        clock: Seconds since the epoch.
    """

    def __init__(self, send: Send, worker: str, *, clock: Callable[[], float] = time.time) -> None:
        self._send = send
        self.worker = worker
        self._clock = clock

    async def publish(self, event: str, *, key: str, **fields: Any) -> None:
        """Publish one event and wait until the broker has confirmed it.

        Args:
            event: What happened, such as "accepted".
            key: The job's name, or the worker's id for what concerns no job.
            fields: What to tell besides; JSON values.

        Raises:
            Exception: What the broker's client raises when the event cannot be delivered.
        """
        await self._send(key.encode(), self._encode(event, fields))

    def _encode(self, event: str, fields: Mapping[str, Any]) -> bytes:
        """Return the event as bytes: its name, the time, this worker's id, then the fields."""
        message = {"event": event, "timestamp": self._clock(), "worker": self.worker, **fields}
        return orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)
