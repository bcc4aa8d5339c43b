"""Events say what happened, when and where, and are confirmed when `publish` returns."""

import asyncio
import json
import math
from typing import Any

import pytest

from worker.messages.events import EventPublisher


class Topic:
    """An events topic that keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any]] = []

    async def send(self, key: bytes, value: bytes) -> None:
        self.sent.append((key, json.loads(value)))


async def test_an_event_names_itself_the_time_and_the_worker() -> None:
    """Every event has the same first fields, and its own after them."""
    topic = Topic()
    events = EventPublisher(topic.send, "worker-1", clock=lambda: 12.5)
    await events.publish("accepted", key="job-a", id="job-a")

    expected = {"event": "accepted", "timestamp": 12.5, "worker": "worker-1", "id": "job-a"}
    assert topic.sent == [(b"job-a", expected)]


async def test_a_figure_that_is_not_a_number_is_null() -> None:
    """JSON has no NaN; a reader in any language gets null."""
    topic = Topic()
    await EventPublisher(topic.send, "worker-1").publish("epoch", key="a", train_loss=math.nan)

    assert topic.sent[0][1]["train_loss"] is None


async def test_publishing_waits_for_the_confirmation() -> None:
    """A publish that has returned has arrived."""
    confirmation: asyncio.Future[None] = asyncio.Future()
    is_sent = asyncio.Event()

    async def send(_key: bytes, _value: bytes) -> None:
        is_sent.set()
        await confirmation

    publishing = asyncio.create_task(EventPublisher(send, "worker-1").publish("accepted", key="a"))
    await is_sent.wait()
    await asyncio.sleep(0)
    was_done = publishing.done()
    confirmation.set_result(None)
    await publishing

    assert not was_done


async def test_a_refusal_of_the_broker_is_raised() -> None:
    """What cannot be delivered is not taken for delivered."""
    with pytest.raises(OSError, match="no broker"):
        await EventPublisher(refuse, "worker-1").publish("accepted", key="a")


async def refuse(_key: bytes, _value: bytes) -> None:
    raise OSError("no broker")
