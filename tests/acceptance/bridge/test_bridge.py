"""The bridge between a real Kafka and Google's emulator, through outages."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.bridge.bridge_contract import BridgeContract
from tests.integration.bridge.mirrored import (
    OUTAGE_S,
    YESTERDAY_MS,
    Sides,
    eventually,
    numbered,
)
from worker.bridge.messages.mapping import MARKS
from worker.bridge.messages.routes import Route
from worker.testing.programs.brokers import RealKafka


class TestOnRealBrokers(BridgeContract):
    """Every claim of the contract."""


async def test_arbitrary_messages_come_back_identical(sides: Sides) -> None:
    """Arbitrary messages, sent through both brokers, come back unchanged."""
    first, last, topic = sides.kafka_topic(), sides.kafka_topic(), sides.pub_sub_topic()
    subscription = sides.subscription(topic)
    sent: dict[bytes, tuple[object, ...]] = {}
    # confluent-kafka ends a header's name at a NUL, when it sends and when it reads
    characters = st.characters(exclude_characters="\0", codec="utf-8")
    names = st.text(characters, max_size=60).filter(lambda name: name not in MARKS)
    values = st.one_of(st.none(), st.binary(max_size=60))

    @settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
    @given(
        key=values,
        headers=st.lists(st.tuples(names, values), max_size=12),
        timestamp=st.integers(YESTERDAY_MS - 10**8, YESTERDAY_MS),
        value=st.binary(min_size=1, max_size=40),
    )
    def send(key: object, headers: object, timestamp: int, value: bytes) -> None:
        name = b"%06d" % len(sent) + value
        sides.produce(first, name, key=key, headers=headers, timestamp=timestamp)
        sent[name] = (key, headers, timestamp)

    send()
    sides.flush()
    async with sides.mirroring(
        Route(kafka_topic=first, pub_sub_topic=topic),
        Route(kafka_topic=last, pub_sub_subscription=subscription),
    ):
        came = await asyncio.to_thread(sides.read_kafka, last, len(sent), 60.0)
    found = {
        one.value(): (
            one.key(),
            [pair for pair in one.headers() or [] if pair[0] not in MARKS],
            one.timestamp()[1],
        )
        for one in came
    }
    assert found == sent


async def test_kafka_may_be_killed_and_come_back(
    mortal_sides: Sides, mortal_kafka: RealKafka
) -> None:
    """A Kafka that dies under load and comes back costs time and no message."""
    sides = mortal_sides
    first, last, topic = sides.kafka_topic(), sides.kafka_topic(), sides.pub_sub_topic()
    subscription = sides.subscription(topic)
    values = numbered(5000)
    routes = (
        Route(kafka_topic=first, pub_sub_topic=topic),
        Route(kafka_topic=last, pub_sub_subscription=subscription),
    )
    sides.send(first, values)
    async with sides.mirroring(*routes) as bridge:
        await eventually(
            "first messages", lambda: any(one.mirrored for one in bridge.stats.values())
        )
        await asyncio.to_thread(mortal_kafka.kill)
        await asyncio.sleep(OUTAGE_S)
        await asyncio.to_thread(mortal_kafka.start)
        came = await asyncio.to_thread(sides.read_kafka, last, len(values), 120.0)
    assert {one.value() for one in came} == set(values)
