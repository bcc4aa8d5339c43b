"""A Pub/Sub whose calls fail again and again: no message is lost, and the bridge goes on."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.bridge.mirrored import (
    Inward,
    Outward,
    PubsubMessage,
    Sides,
    eventually,
    numbered,
)
from worker.bridge.flow.pace import Bounds, Pace
from worker.testing import EmbeddedKafka
from worker.testing.fake_pubsub import FakePubSub

SHORT_LEASES = Pace(lease_s=1)
"""Leases of one second; each is extended when a fifth of it is over."""


@pytest.mark.parametrize("ordering", ["none", "key"])
async def test_storms_of_errors_lose_nothing(sides: Sides, fake: FakePubSub, ordering: str) -> None:
    """When half of all requests fail, half of those after they were accepted, all arrive."""
    way = Outward(sides, ordering=ordering)
    values = numbered(3000)
    fake.faults.publish_error_rate = 0.5
    sides.send(way.kafka, values, key=b"k")
    options = {"bounds": Bounds(request_messages=100), "pace": Pace(longest_backoff_s=0.2)}
    async with sides.mirroring(way.route, **options) as bridge:
        came = await asyncio.to_thread(sides.read_pub_sub, way.subscription, 3000, 60.0)
        assert bridge.stats[way.route.name].failures > 0
    assert sorted({one.data for one in came}) == values
    if ordering == "key":  # repeated at most, never overtaken
        first = list(dict.fromkeys(one.data for one in came))
        assert first == values


async def test_a_storm_in_every_call_of_a_subscription_loses_nothing(
    sides: Sides, kafka: EmbeddedKafka, fake: FakePubSub
) -> None:
    """Streams, acknowledgements and new deadlines fail, and streams live a second: all arrive.

    Acknowledgements are slow, and so is Kafka. None is left over in the subscription.
    """
    way, values = Inward(sides), numbered(4000)
    (state,) = fake.subscriptions.values()
    faults = fake.faults
    faults.stream_error_rate = faults.acknowledge_error_rate = faults.extend_error_rate = 0.5
    faults.cut_streams_every_s = 1.0
    faults.acknowledge_delay_s = 0.3
    kafka.set_rtt_ms(400)  # so long that leases have to be extended
    async with sides.mirroring(way.route, pace=SHORT_LEASES) as bridge:
        for start in range(0, len(values), 500):
            chunk = values[start : start + 500]
            sides.publish(way.topic, [PubsubMessage(data=value) for value in chunk])
            await asyncio.sleep(0.4)
        came = await asyncio.to_thread(sides.read_kafka, way.kafka, len(values), 60.0)
        await eventually("acknowledgements", lambda: not state.out and not state.waiting)
        assert bridge.stats[way.route.name].failures > 0
    assert sorted({one.value() for one in came}) == values


async def test_a_stream_that_is_cut_again_and_again_delivers(
    sides: Sides, fake: FakePubSub
) -> None:
    """Streams of 0.2 s, failing and slow acknowledgements: every message arrives."""
    way = Inward(sides)
    fake.faults.cut_streams_every_s = 0.2
    fake.faults.acknowledge_error_rate = 0.3
    fake.faults.acknowledge_delay_s = 0.05
    values = numbered(4000)
    async with sides.mirroring(way.route):
        for start in range(0, 4000, 500):
            chunk = values[start : start + 500]
            sides.publish(way.topic, [PubsubMessage(data=value) for value in chunk])
            await asyncio.sleep(0.15)
        came = await asyncio.to_thread(sides.read_kafka, way.kafka, 4000, 60.0)
    assert sorted({one.value() for one in came}) == values
    (state,) = [one for one in fake.subscriptions.values() if one.acked]
    assert (len(state.out), len(state.waiting)) == (0, 0)


async def test_leases_are_extended_while_kafka_is_away(
    sides: Sides, kafka: EmbeddedKafka, fake: FakePubSub
) -> None:
    """In an outage of three leases, with half of the new deadlines failing, none comes twice."""
    way, values = Inward(sides), numbered(2000)
    (state,) = fake.subscriptions.values()
    fake.faults.extend_error_rate = 0.5
    async with sides.mirroring(way.route, pace=SHORT_LEASES) as bridge:
        kafka.broker_down()
        sides.publish(way.topic, [PubsubMessage(data=value) for value in values])
        await eventually("outstanding", lambda: bridge.stats[way.route.name].outstanding == 2000)
        await asyncio.sleep(3 * SHORT_LEASES.lease_s)
        assert (len(state.out), state.acked) == (2000, 0)
        kafka.broker_up()
        came = await asyncio.to_thread(sides.read_kafka, way.kafka, len(values), 60.0)
    assert sorted(one.value() for one in came) == values
