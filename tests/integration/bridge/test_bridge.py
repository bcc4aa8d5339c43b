"""The bridge between the embedded Kafka and the fake Pub/Sub, with every fault."""

from __future__ import annotations

import asyncio
import socket
import time

import grpc
import pytest
from confluent_kafka import KafkaError

from tests.integration.bridge.bridge_contract import BridgeContract
from tests.integration.bridge.mirrored import (
    OUTAGE_S,
    Inward,
    Outward,
    PubsubMessage,
    Sides,
    eventually,
    numbered,
    use_emulator,
)
from worker.bridge.flow.errors import BridgeError
from worker.bridge.flow.pace import Bounds, Pace
from worker.embedded.kafka import ApiKey
from worker.testing import EmbeddedKafka
from worker.testing.fake_pubsub import FakePubSub


class TestOnTheFake(BridgeContract):
    """Every claim of the contract."""


@pytest.mark.parametrize("ordering", ["none", "key"])
async def test_one_refused_message_is_dead_lettered_alone(
    sides: Sides, fake: FakePubSub, ordering: str
) -> None:
    """Its 999 neighbours arrive; it is in the dead letters, untouched, with the reason."""
    way = Outward(sides, ordering=ordering)
    values = numbered(1000)
    fake.faults.refuse = lambda message: message.data == values[437]
    sides.send(way.kafka, values, key=b"k", headers=[("h", b"1")])
    async with sides.mirroring(way.route) as bridge:
        came = await asyncio.to_thread(sides.read_pub_sub, way.subscription, 999)
        (letter,) = await asyncio.to_thread(sides.read_kafka, "dead-letters", 1)
        await eventually("commit", lambda: bridge.stats[way.route.name].dead_letters == 1)
    assert sorted(one.data for one in came) == [v for v in values if v != values[437]]
    assert (letter.key(), letter.value()) == (b"k", values[437])
    headers = dict(letter.headers())
    assert (headers["reason"], headers["source-topic"]) == (b"refused", way.kafka.encode())
    assert b"refused" in headers["error"]
    if ordering == "key":
        assert [one.data for one in came] == sorted(one.data for one in came)


async def test_an_outage_of_pub_sub_is_waited_for(
    sides: Sides, fake: FakePubSub, caplog: pytest.LogCaptureFixture
) -> None:
    """While Pub/Sub is down the bridge says so once and waits; then all messages arrive."""
    out, into = Outward(sides), Inward(sides)
    values = numbered(2000)
    async with sides.mirroring(out.route, into.route) as bridge:
        fake.faults.is_down = True
        sides.send(out.kafka, values)
        await eventually(
            "waiting", lambda: "UNAVAILABLE" in bridge.stats[out.route.name].waiting_for
        )
        await asyncio.sleep(OUTAGE_S)
        assert "UNAVAILABLE" in bridge.stats[out.route.name].waiting_for
        assert bridge.stats[out.route.name].outstanding == len(values)
        fake.faults.is_down = False
        sides.publish(into.topic, [PubsubMessage(data=value) for value in values])
        came = await asyncio.to_thread(sides.read_pub_sub, out.subscription, 2000)
        there = await asyncio.to_thread(sides.read_kafka, into.kafka, 2000)
    assert sorted({one.data for one in came}) == values
    assert sorted({one.value() for one in there}) == values
    waiting = f"bridge route={out.route.name} waiting reason=UNAVAILABLE"
    assert caplog.text.count(waiting) == 1


async def test_an_outage_of_kafka_is_waited_for(sides: Sides, kafka: EmbeddedKafka) -> None:
    """While Kafka is down no message is acknowledged; then all arrive."""
    way = Inward(sides)
    values = numbered(2000)
    async with sides.mirroring(way.route) as bridge:
        kafka.broker_down()
        sides.publish(way.topic, [PubsubMessage(data=value) for value in values])
        await eventually("outstanding", lambda: bridge.stats[way.route.name].outstanding == 2000)
        await asyncio.sleep(OUTAGE_S)
        await eventually("waiting", lambda: bridge.stats[way.route.name].waiting_for)
        assert bridge.stats[way.route.name].mirrored == 0
        kafka.broker_up()
        came = await asyncio.to_thread(sides.read_kafka, way.kafka, 2000, 60.0)
    assert sorted({one.value() for one in came}) == values


async def test_a_stop_does_not_wait_for_a_kafka_that_is_away(
    sides: Sides, fake: FakePubSub, kafka: EmbeddedKafka
) -> None:
    """A route that has received more than it may hold ends in time, and gives back its messages."""
    way, options = Inward(sides), {"pace": Pace(drain_s=1.0), "bounds": Bounds(n_bytes=1000)}
    async with sides.mirroring(way.route, **options) as bridge:
        kafka.broker_down()
        sides.publish(way.topic, [PubsubMessage(data=value) for value in numbered(8000)])
        (state,) = [one for one in fake.subscriptions.values() if one.waiting or one.out]
        await eventually("full", lambda: bridge.stats[way.route.name].outstanding >= 1000)
        await eventually("more", lambda: len(state.out) > 3000)
        started = time.monotonic()
    assert time.monotonic() - started < 10.0
    assert len(state.waiting) >= 4000  # what the stream has not handed over keeps its lease
    assert len(state.out) + len(state.waiting) == 8000


async def test_second_copies_are_dropped_within_the_window(sides: Sides) -> None:
    """With `deduplicate`, a message that Pub/Sub delivers twice reaches Kafka once."""
    way = Inward(sides, deduplicate=100)
    twice = PubsubMessage(data=b"same", attributes={"darkroom.origin": "kafka/c/t/0/7"})
    async with sides.mirroring(way.route) as bridge:
        sides.publish(way.topic, [twice])
        await eventually("first", lambda: bridge.stats[way.route.name].mirrored == 1)
        sides.publish(way.topic, [twice])
        await eventually("second", lambda: bridge.stats[way.route.name].skipped == 1)
    assert len(await asyncio.to_thread(sides.read_kafka, way.kafka, 1)) == 1


async def test_memory_is_bounded_while_pub_sub_is_slow(sides: Sides, fake: FakePubSub) -> None:
    """With 40,000 messages to go and slow answers, at most 20,000 are under way."""
    way = Outward(sides)
    fake.faults.publish_delay_s = 0.3
    sides.send(way.kafka, numbered(40_000))
    async with sides.mirroring(way.route) as bridge:
        most = 0

        def done() -> bool:
            nonlocal most
            most = max(most, bridge.stats[way.route.name].outstanding)
            return bridge.stats[way.route.name].mirrored == 40_000

        await eventually("end", done, 60.0)
    assert 1000 <= most <= 20_000


async def test_the_watchdog_ends_what_gets_nothing_done(sides: Sides, fake: FakePubSub) -> None:
    """A route with work that nobody confirms for too long crashes the service."""
    way = Outward(sides)
    sides.send(way.kafka, [b"stuck"])
    async with sides.mirroring(way.route, pace=Pace(stalled_s=1.0)) as bridge:
        fake.faults.is_down = True
        await eventually("crash", lambda: bridge.crashed, 20.0)
        fake.faults.is_down = False  # so that it stops at once
    assert isinstance(bridge.crash_reason, BridgeError)
    assert "finished none for 1 s" in str(bridge.crash_reason)


async def test_an_idle_bridge_is_not_taken_for_a_stalled_one(sides: Sides) -> None:
    """A route without work does not end the worker."""
    out, into = Outward(sides), Inward(sides)
    async with sides.mirroring(out.route, into.route, pace=Pace(stalled_s=0.5)) as bridge:
        await asyncio.sleep(1.5)  # three times the limit
        assert not bridge.crashed


async def test_it_mirrors_within_milliseconds(sides: Sides, fake: FakePubSub) -> None:
    """A single message is on the other side in a fraction of a second."""
    way = Outward(sides)
    async with sides.mirroring(way.route) as bridge:
        sides.send(way.kafka, [b"first"])
        await eventually("first", lambda: bridge.stats[way.route.name].mirrored == 1)
        sides.send(way.kafka, [b"second"])
        await eventually("second", lambda: bridge.stats[way.route.name].mirrored == 2, 1.0)


async def test_errors_that_people_have_to_mend_are_explained(
    sides: Sides, fake: FakePubSub
) -> None:
    """The reason for which the route waits names refused credentials."""
    way = Outward(sides)
    fake.faults.publish_errors = [grpc.StatusCode.UNAUTHENTICATED] * 3
    sides.send(way.kafka, [b"x"])
    async with sides.mirroring(way.route) as bridge:
        stats = bridge.stats[way.route.name]
        await eventually("reason", lambda: "credentials are wrong, expired" in stats.waiting_for)
        await eventually("end", lambda: stats.mirrored == 1)


async def test_a_pub_sub_that_does_not_answer_ends_the_start(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After TIMEOUT seconds the start ends, and the error says what to set."""
    way = Outward(sides)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use_emulator(monkeypatch, f"127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(BridgeError, match=r"did not answer within 0.3 s; .* set TIMEOUT"):
            await sides.bridge(way.route, timeout_s=0.3).start()


async def test_the_neighbours_of_a_refused_message_arrive(
    sides: Sides, kafka: EmbeddedKafka
) -> None:
    """Kafka refuses whole batches; each message is sent again alone, and none is lost."""
    way = Inward(sides)
    values = numbered(500)
    kafka.push_request_errors(ApiKey.PRODUCE, KafkaError.MSG_SIZE_TOO_LARGE)
    sides.publish(way.topic, [PubsubMessage(data=value) for value in values])
    async with sides.mirroring(way.route) as bridge:
        came = await asyncio.to_thread(sides.read_kafka, way.kafka, len(values))
        assert bridge.stats[way.route.name].dead_letters == 0
    assert sorted({one.value() for one in came}) == values
