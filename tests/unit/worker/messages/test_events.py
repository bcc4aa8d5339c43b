"""Events say what happened, when and where, and are confirmed when `publish` returns."""

import asyncio
import json
import math

import pytest

from worker.messages.events import Events


async def test_an_event_names_itself_the_time_and_the_worker() -> None:
    """Every event has the same first fields, and its own after them."""
    sent: list[tuple[bytes, bytes]] = []

    async def send(key: bytes, value: bytes) -> None:
        sent.append((key, value))

    events = Events(send, "worker-1", clock=lambda: 12.5)
    await events.publish("accepted", key="job-a", id="job-a")

    ((key, value),) = sent
    expected = {"event": "accepted", "timestamp": 12.5, "worker": "worker-1", "id": "job-a"}
    assert (key, json.loads(value)) == (b"job-a", expected)


async def test_a_figure_that_is_no_number_is_null() -> None:
    """JSON has no NaN; a reader in any language gets null."""
    events = Events(refuse, "worker-1")

    assert json.loads(events.encode("epoch", {"train_loss": math.nan}))["train_loss"] is None


async def test_publishing_waits_for_the_confirmation() -> None:
    """A publish that has returned has arrived."""
    confirmation: asyncio.Future[None] = asyncio.Future()
    is_sent = asyncio.Event()

    async def send(_key: bytes, _value: bytes) -> None:
        is_sent.set()
        await confirmation

    publishing = asyncio.create_task(Events(send, "worker-1").publish("accepted", key="a"))
    await is_sent.wait()
    await asyncio.sleep(0)
    was_done = publishing.done()
    confirmation.set_result(None)
    await publishing

    assert not was_done


async def test_a_refusal_of_the_broker_is_raised() -> None:
    """What cannot be delivered is not taken for delivered."""
    with pytest.raises(OSError, match="no broker"):
        await Events(refuse, "worker-1").publish("accepted", key="a")


async def refuse(_key: bytes, _value: bytes) -> None:
    raise OSError("no broker")
