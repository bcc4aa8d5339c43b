"""A Kafka that refuses all messages for a while: the bridge waits for it and loses nothing."""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from tests.integration.bridge.mirrored import (
    Inward,
    Outward,
    PubsubMessage,
    Sides,
    eventually,
    numbered,
)
from worker.bridge.flow.pace import Bounds, Pace
from worker.bridge.service import WATCH_S
from worker.embedded.kafka import ApiKey
from worker.testing import EmbeddedKafka
from worker.testing.fake_pubsub import FakePubSub

ENOUGH = 10_000
"""More than the requests that a test can send."""
PACE = Pace(quiet_s=0.5)


def refuse_writes(kafka: EmbeddedKafka) -> None:
    """Answer like a broker whose followers are away; a real broker needs followers for that."""
    kafka.push_request_errors(ApiKey.PRODUCE, *[KafkaError.NOT_ENOUGH_REPLICAS] * ENOUGH)


def take_writes(kafka: EmbeddedKafka) -> None:
    kafka.clear_request_errors(ApiKey.PRODUCE)


def committed(sides: Sides, way: Outward) -> int:
    """Return how many messages the route has committed."""
    group = f"darkroom-bridge-{way.kafka}-{way.route.pub_sub_topic}"
    consumer = Consumer({"bootstrap.servers": sides.bootstrap, "group.id": group, "log_level": 0})
    asked = [TopicPartition(way.kafka, number) for number in range(3)]
    found = consumer.committed(asked, timeout=10.0)
    consumer.close()
    return sum(max(one.offset, 0) for one in found)


async def test_what_kafka_refuses_for_a_while_arrives_after_it(
    sides: Sides, kafka: EmbeddedKafka, fake: FakePubSub
) -> None:
    """No message is acknowledged before, at most 21,000 are held, and each arrives exactly once."""
    way, values = Inward(sides), numbered(30_000)
    (state,) = fake.subscriptions.values()
    refuse_writes(kafka)
    async with sides.mirroring(way.route, pace=PACE) as bridge:
        figures = bridge.stats[way.route.name]
        sides.publish(way.topic, [PubsubMessage(data=value) for value in values])
        await eventually("waiting", lambda: "confirmed nothing" in figures.waiting_for)
        assert (figures.mirrored, state.acked) == (0, 0)
        assert 20_000 <= figures.outstanding <= 21_000
        take_writes(kafka)
        came = await asyncio.to_thread(sides.read_kafka, way.kafka, len(values))
        await eventually("acknowledgements", lambda: state.acked == len(values))
        assert not figures.waiting_for
    assert sorted(one.value() for one in came) == values


async def test_what_is_waited_for_is_logged_again_when_it_is_something_else(
    sides: Sides, kafka: EmbeddedKafka, caplog: pytest.LogCaptureFixture
) -> None:
    """First there is no answer, then a request fails: each is one line in the log."""
    way = Inward(sides)
    refuse_writes(kafka)
    async with sides.mirroring(way.route, pace=PACE) as bridge:
        sides.publish(way.topic, [PubsubMessage(data=b"one")])
        await eventually("silence", lambda: "confirmed nothing" in caplog.text)
        bridge.stats[way.route.name].record_failure("DEADLINE_EXCEEDED")
        await eventually("failure", lambda: "DEADLINE_EXCEEDED" in caplog.text)
        await asyncio.sleep(2 * WATCH_S)  # the bridge looks once more
        take_writes(kafka)
        await asyncio.to_thread(sides.read_kafka, way.kafka, 1)
    assert caplog.text.count(" waiting reason=") == 2


async def test_dead_letters_that_kafka_refuses_keep_the_offset(
    sides: Sides, kafka: EmbeddedKafka, fake: FakePubSub
) -> None:
    """From Kafka: the neighbours arrive, and no offset is committed past letters not yet stored."""
    way, values = Outward(sides), numbered(100)
    bad = {values[10], values[50]}
    fake.faults.refuse = lambda message: message.data in bad
    sides.send(way.kafka, values, partition=0)
    refuse_writes(kafka)
    async with sides.mirroring(way.route, pace=PACE) as bridge:
        figures = bridge.stats[way.route.name]
        came = await asyncio.to_thread(sides.read_pub_sub, way.subscription, 98)
        await eventually("waiting", lambda: "2 dead letters" in figures.waiting_for)
        assert (figures.dead_letters, figures.outstanding) == (0, 2)
        assert committed(sides, way) <= 10
        take_writes(kafka)
        letters = await asyncio.to_thread(sides.read_kafka, "dead-letters", 2)
        await eventually("end", lambda: figures.dead_letters == 2)
        await eventually("end of waiting", lambda: not figures.waiting_for)
    assert committed(sides, way) == 100
    assert {one.data for one in came} == set(values) - bad
    assert {one.value() for one in letters} == bad


async def test_dead_letters_that_kafka_refuses_are_not_acknowledged(
    sides: Sides, kafka: EmbeddedKafka, fake: FakePubSub
) -> None:
    """To Kafka: a message stays in Pub/Sub until its dead letter is stored."""
    way = Inward(sides)
    (state,) = fake.subscriptions.values()
    kafka.push_request_errors(ApiKey.PRODUCE, *[KafkaError.MSG_SIZE_TOO_LARGE] * 2)
    refuse_writes(kafka)
    async with sides.mirroring(way.route, pace=PACE) as bridge:
        figures = bridge.stats[way.route.name]
        sides.publish(way.topic, [PubsubMessage(data=b"refused")])
        await eventually("waiting", lambda: "1 dead letters" in figures.waiting_for)
        assert (figures.dead_letters, state.acked, len(state.out)) == (0, 0, 1)
        take_writes(kafka)
        (letter,) = await asyncio.to_thread(sides.read_kafka, "dead-letters", 1)
        await eventually("acknowledgement", lambda: state.acked == 1)
        await eventually("end of waiting", lambda: not figures.waiting_for)
    assert letter.value() == b"refused"


async def test_dead_letters_that_wait_are_bounded(
    sides: Sides, kafka: EmbeddedKafka, fake: FakePubSub
) -> None:
    """When all messages and their letters are refused, the route holds no more than its bound."""
    way, values = Outward(sides), numbered(200)
    fake.faults.refuse = lambda _: True
    sides.send(way.kafka, values)
    refuse_writes(kafka)
    async with sides.mirroring(way.route, pace=PACE, bounds=Bounds(messages=30)) as bridge:
        figures = bridge.stats[way.route.name]
        await eventually("waiting", lambda: figures.waiting_for)
        assert figures.outstanding == 30
        take_writes(kafka)
        letters = await asyncio.to_thread(sides.read_kafka, "dead-letters", len(values))
    assert {one.value() for one in letters} == set(values)
