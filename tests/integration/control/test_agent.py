"""Commands taken from the broker in a group: each once, acknowledged when it cannot be lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import faust
import mode
import pytest
from faust.contrib.asgi import faust_app_running

from tests.job_room import until
from worker.control.agent import control_agent
from worker.control.group_commands import GroupCommands
from worker.kafka.broker import Broker
from worker.kafka.connection import Connection
from worker.kafka.publisher import Outgoing, Publisher
from worker.messages.commands import Command
from worker.messages.events import EventPublisher
from worker.testing import EmbeddedKafka
from worker.testing.clients.stream_client import StreamClient
from worker.training.jobs.job import JobState
from worker.training.jobs.ledger import Ledger
from worker.training.runner import Runner

RAW = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}


@pytest.fixture
def kafka() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as broker:
        yield broker


class Deployment:
    """A worker's control agent alone, on a broker and a log directory; and a client."""

    def __init__(self, kafka: EmbeddedKafka, logdir: Path) -> None:
        self.topic = "images"
        for name in ("control", "events"):
            kafka.create_topic(f"{self.topic}-{name}", 1)
        self.bootstrap = kafka.bootstrap
        self.ledger = Ledger(logdir)
        self.client = StreamClient(kafka.bootstrap, self.topic)

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[faust.App]:
        app = faust.App(
            f"{self.topic}-worker",
            broker=f"kafka://{self.bootstrap}",
            store="memory://",
            datadir=str(self.ledger.logdir.parent / "faust"),
            topic_allow_declare=False,
            topic_disable_leader=True,
            broker_session_timeout=6.0,
            broker_commit_interval=0.1,
            web_enabled=False,
        )
        publisher = Publisher(Broker(Connection(self.bootstrap)))

        async def send(key: bytes, value: bytes) -> None:
            await publisher.send(Outgoing(f"{self.topic}-events", key, value))

        events = EventPublisher(send, "worker-1")
        runner = Runner(
            self.ledger, events, send_command=no_command, datadir=self.ledger.logdir
        )  # is not started: jobs stay accepted
        agent = control_agent(GroupCommands(self.ledger, events, runner, defaults={}))
        topic = app.topic(f"{self.topic}-control", **RAW)
        app.agent(topic, name="control", supervisor_strategy=mode.CrashingSupervisor)(agent)
        async with publisher, faust_app_running(app):
            yield app

    async def events_after(self, last_id: str) -> list[dict[str, Any]]:
        """All events up to that of a last command."""
        await asyncio.to_thread(self.client.event, "rejected", id=last_id)
        return [record.json for record in self.client.reader("events").records]


async def no_command(command: Command) -> None:
    raise AssertionError(command)


@pytest.fixture
def deployment(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Deployment]:
    deployment = Deployment(kafka, tmp_path / "logs")
    with deployment.client:
        yield deployment


async def test_each_command_is_answered_once(deployment: Deployment) -> None:
    """Good ones, second deliveries and poison of every kind in one stream: one answer each."""
    client = deployment.client
    client.command("start-training", id="a")
    client.command("start-training", id="a")
    poison = [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"command": 3}', b'{"id": {}}', b"[" * 5000]
    for value in poison:
        client.send(value, topic=f"{deployment.topic}-control")
    client.command("start-training", id="b", params={"learning_rate": "fast"})
    client.command("reload-checkpoint", id="c", checkpoint="../../secret.pt")
    client.command("start-training", id="a")
    client.command("stop-training", id="last", job="nobody")
    async with deployment.worker():
        events = await deployment.events_after("last")

    told = [(event["event"], event["id"]) for event in events]
    noise = [
        ("rejected", f"{deployment.topic}-control-0-{offset}")
        for offset in range(2, 2 + len(poison))
    ]
    assert told == [
        ("accepted", "a"),
        *noise,
        ("rejected", "b"),
        ("rejected", "c"),
        ("rejected", "last"),
    ]
    assert [job.name for job in deployment.ledger.jobs()] == ["a"]


async def test_a_worker_that_starts_again_repeats_no_command(deployment: Deployment) -> None:
    """What was acknowledged is not delivered to the next worker of the group."""
    deployment.client.command("dance", id="first")
    async with deployment.worker():
        await deployment.events_after("first")
        await asyncio.sleep(0.5)  # the commit
    deployment.client.command("dance", id="second")
    async with deployment.worker():
        events = await deployment.events_after("second")

    assert [event["id"] for event in events] == ["first", "second"]


async def test_a_command_that_was_not_answered_is_delivered_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker ends before the answer is confirmed: the next worker does the command."""
    deployment.client.command("start-training", id="a")
    deployment.client.command("dance", id="last")

    async def is_away(*_: object, **__: object) -> None:
        raise OSError("the answer cannot be delivered")

    with monkeypatch.context() as patch:
        patch.setattr(EventPublisher, "publish", is_away)
        async with deployment.worker() as app:
            await until(lambda: app.crashed, "the worker to end", 30.0)
    async with deployment.worker():
        events = await deployment.events_after("last")

    assert [(event["event"], event["id"]) for event in events] == [
        ("accepted", "a"),
        ("rejected", "last"),
    ]
    job = deployment.ledger.read("a")
    assert job is not None
    assert job.published_state is JobState.ACCEPTED
