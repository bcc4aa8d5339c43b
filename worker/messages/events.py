"""Events: what happens in a worker, one JSON object per event on the events topic.

`publish` returns when the broker has confirmed the event. A command that is acknowledged afterwards
is never left without its answer.
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
            key: The name of the job, or the worker's id for an event without a job.
            fields: More fields; JSON values.

        Raises:
            Exception: What the broker's client raises when the event cannot be delivered.
        """
        await self._send(key.encode(), self._encode(event, fields))

    def _encode(self, event: str, fields: Mapping[str, Any]) -> bytes:
        """Return the event as bytes: its name, the time, this worker's id, then the fields."""
        message = {"event": event, "timestamp": self._clock(), "worker": self.worker, **fields}
        return orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)
