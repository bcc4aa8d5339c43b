"""Every worker hears every command, on a broker that comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.job_room import until
from worker.backoff import Backoff
from worker.control.command_listener import CommandListener
from worker.images.deployment_record import Order
from worker.kafka.broker import Broker
from worker.kafka.connection import Connection
from worker.messages.commands import Command
from worker.testing import EmbeddedKafka
from worker.testing.clients.stream_client import StreamClient


@pytest.fixture
def kafka() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as broker:
        broker.create_topic("images-control", 1)
        yield broker


@pytest.fixture
def client(kafka: EmbeddedKafka) -> Iterator[StreamClient]:
    with StreamClient(kafka.bootstrap) as client:
        yield client


class Listener:
    """One worker's ear, and what it heard."""

    def __init__(self, bootstrap: str, backoff: Backoff | None = None) -> None:
        self.heard: list[tuple[str, Order]] = []
        self.service = CommandListener(
            "images-control", self.hear, broker=Broker(Connection(bootstrap)), backoff=backoff
        )

    async def hear(self, command: Command, order: Order) -> None:
        self.heard.append((command.id, order))
        if command.id == "breaks":
            raise RuntimeError("a command that breaks its handler")

    @property
    def ids(self) -> list[str]:
        return [name for name, _ in self.heard]

    async def has_heard(self, *ids: str) -> None:
        await until(lambda: len(self.heard) >= len(ids), f"{ids}: {self.heard}", 20.0)
        assert self.ids == list(ids)


async def test_every_worker_hears_what_is_sent_after_it_listens(
    kafka: EmbeddedKafka, client: StreamClient
) -> None:
    """Each hears every command in order, none that was sent before, none that is not one."""
    client.command("status", id="before")
    first, second = Listener(kafka.bootstrap), Listener(kafka.bootstrap)
    async with first.service, second.service:
        await first.service.has_position.wait()
        await second.service.has_position.wait()
        client.command("status", id="one")
        client.command("dance", id="unknown")
        client.send(b"{", topic="images-control")
        client.command("rollback", id="two")
        await first.has_heard("one", "two")
        await second.has_heard("one", "two")

    orders = [order for _, order in first.heard]
    assert orders == sorted(orders)
    assert [offset for _, offset in orders] == [1, 4]
    assert first.heard == second.heard


async def test_a_command_that_breaks_does_not_deafen(
    kafka: EmbeddedKafka, client: StreamClient, caplog: pytest.LogCaptureFixture
) -> None:
    """After an error of its handler the next command is heard, and the log has the traceback."""
    listener = Listener(kafka.bootstrap)
    async with listener.service:
        await listener.service.has_position.wait()
        client.command("status", id="breaks")
        client.command("status", id="next")
        await listener.has_heard("breaks", "next")

    assert "id=breaks: failed" in caplog.text


async def test_an_outage_loses_no_command(kafka: EmbeddedKafka, client: StreamClient) -> None:
    """A broker that goes and comes back: what was sent since is heard, and nothing twice."""
    listener = Listener(kafka.bootstrap)
    async with listener.service:
        await listener.service.has_position.wait()
        client.command("status", id="one")
        await listener.has_heard("one")
        kafka.broker_down()
        await asyncio.sleep(1.0)
        kafka.broker_up()
        client.command("status", id="two")
        await listener.has_heard("one", "two")


async def test_a_listener_that_has_to_begin_again_goes_on_where_it_was(
    kafka: EmbeddedKafka, client: StreamClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its consumer fails for good, the next one begins after the last command heard."""
    listener = Listener(kafka.bootstrap)
    async with listener.service:
        await listener.service.has_position.wait()
        client.command("status", id="one")
        await listener.has_heard("one")
        with monkeypatch.context() as patch:
            patch.setattr("aiokafka.AIOKafkaConsumer.getmany", fail)
            await asyncio.sleep(0.5)
            client.command("status", id="two")
        client.command("status", id="three")
        await listener.has_heard("one", "two", "three")


async def test_the_second_outage_begins_with_short_delays(
    kafka: EmbeddedKafka, client: StreamClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long an outage was, the next one is met with the first delay again."""
    backoff = Backoff(0.01, 0.08, jitter=lambda _low, high: high)
    listener = Listener(kafka.bootstrap, backoff)
    async with listener.service:
        await listener.service.has_position.wait()
        with monkeypatch.context() as patch:
            patch.setattr("aiokafka.AIOKafkaConsumer.getmany", fail)
            await until(lambda: backoff.failures >= 4, "a long outage", 20.0)
        client.command("status", id="one")
        await listener.has_heard("one")

        assert backoff.next_delay_s() == 0.01


async def fail(*_: object, **__: object) -> None:
    raise OSError("the network is away")


async def test_a_broker_that_is_not_there_yet_is_waited_for(kafka: EmbeddedKafka) -> None:
    """A listener that starts during an outage begins when it is over."""
    kafka.broker_down()
    listener = Listener(kafka.bootstrap)
    async with listener.service:
        await asyncio.sleep(0.5)
        is_early = listener.service.has_position.is_set()
        kafka.broker_up()
        async with asyncio.timeout(20.0):
            await listener.service.has_position.wait()

    assert not is_early


async def test_it_stops_at_once(kafka: EmbeddedKafka) -> None:
    """Stopping takes no longer than a poll, also during an outage."""
    loop = asyncio.get_running_loop()
    listener = Listener(kafka.bootstrap)
    async with listener.service:
        await listener.service.has_position.wait()
        kafka.broker_down()
        begin = loop.time()

    assert loop.time() - begin < 2.0


async def test_a_listener_that_has_started_misses_no_command(kafka: EmbeddedKafka) -> None:
    """A worker says that it is ready after that; a command sent at once is received."""
    listener = Listener(kafka.bootstrap)
    async with listener.service:
        has_position = listener.service.has_position.is_set()

    assert has_position
