"""What the bridge does between any Kafka and any Pub/Sub; the tests of both tiers inherit it."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.bridge.mirrored import (
    YESTERDAY_MS,
    PubsubMessage,
    Sides,
    eventually,
    numbered,
)
from worker.bridge.flow.errors import BridgeError
from worker.bridge.messages.mapping import MARKS
from worker.bridge.messages.routes import Route

AWKWARD = [
    (b"key", b"value", [("b", b"1"), ("a", b"2")]),
    (b"\xff\x00", b"binary key", [("h", b"1"), ("h", b"2"), ("h", None), ("", b"")]),
    (None, b"", [("topic", b"t"), ("data", b"d"), ("retry", b"\xfe")]),
    (b"", b"empty key", [("x" * 257, b"1"), ("y", b"z" * 1025)]),
    (b"k" * 2000, b"101 headers", [(f"h{number}", b"v") for number in range(101)]),
    (b"tombstone", None, []),
]


class BridgeContract:
    """The claims; a subclass's module has the fixture `sides`."""

    async def test_a_message_comes_back_identical(self, sides: Sides) -> None:
        """Kafka to Pub/Sub to Kafka: key, value, headers in order and timestamp are the same."""
        first, last = sides.kafka_topic(), sides.kafka_topic()
        topic = sides.pub_sub_topic()
        subscription = sides.subscription(topic)
        for key, value, headers in AWKWARD:
            sides.send(first, [value], key=key, headers=headers, timestamp=YESTERDAY_MS)
        async with sides.mirroring(
            Route(kafka_topic=first, pub_sub_topic=topic),
            Route(kafka_topic=last, pub_sub_subscription=subscription),
        ):
            came = await asyncio.to_thread(sides.read_kafka, last, len(AWKWARD))
        found = {
            one.value(): (
                one.key(),
                [(name, value) for name, value in one.headers() or [] if name not in MARKS],
                one.timestamp()[1],
            )
            for one in came
        }
        assert found == {value: (key, headers, YESTERDAY_MS) for key, value, headers in AWKWARD}

    async def test_a_pub_sub_message_comes_back_identical(self, sides: Sides) -> None:
        """Pub/Sub to Kafka to Pub/Sub: data, attributes and ordering key are the same."""
        first, last = sides.pub_sub_topic(), sides.pub_sub_topic()
        before, after = sides.subscription(first), sides.subscription(last)
        between = sides.kafka_topic()
        attributes = {"topic": "t", "colour": "grey", "empty": ""}
        (name,) = sides.publish(
            first, [PubsubMessage(data=b"\xff\x00", attributes=attributes, ordering_key="k")]
        )
        async with sides.mirroring(
            Route(kafka_topic=between, pub_sub_subscription=before),
            Route(kafka_topic=between, pub_sub_topic=last),
        ):
            (message,) = await asyncio.to_thread(sides.read_pub_sub, after, 1)
        own = {n: v for n, v in message.attributes.items() if not n.startswith("darkroom.")}
        assert (message.data, own, message.ordering_key) == (b"\xff\x00", attributes, "k")
        assert message.attributes["darkroom.message_id"] == name

    async def test_a_graceful_stop_leaves_nothing_and_repeats_nothing(self, sides: Sides) -> None:
        """After a stop under load and a new start, each message has arrived exactly once."""
        first, last = sides.kafka_topic(), sides.kafka_topic()
        topic = sides.pub_sub_topic()
        subscription = sides.subscription(topic)
        routes = (
            Route(kafka_topic=first, pub_sub_topic=topic),
            Route(kafka_topic=last, pub_sub_subscription=subscription),
        )
        values = numbered(6000)
        sides.send(first, values[:4000])
        async with sides.mirroring(*routes) as bridge:
            await eventually(
                "first messages", lambda: any(one.mirrored > 500 for one in bridge.stats.values())
            )
        sides.send(first, values[4000:])
        async with sides.mirroring(*routes):
            came = await asyncio.to_thread(sides.read_kafka, last, len(values), 60.0)
        assert sorted(one.value() for one in came) == values

    async def test_order_by_key_is_kept(self, sides: Sides) -> None:
        """With the key as the ordering key, the messages of each key arrive in order."""
        first, topic = sides.kafka_topic(), sides.pub_sub_topic()
        subscription = sides.subscription(topic)
        for number in range(600):
            sides.produce(first, b"%d" % number, key=b"key-%d" % (number % 7))
        sides.flush()
        async with sides.mirroring(Route(kafka_topic=first, pub_sub_topic=topic, ordering="key")):
            came = await asyncio.to_thread(sides.read_pub_sub, subscription, 600)
        for key in range(7):
            numbers = [int(one.data) for one in came if one.ordering_key == f"key-{key}"]
            assert numbers == sorted(numbers)
            assert len(numbers) >= 85

    async def test_a_missing_topic_is_named(self, sides: Sides) -> None:
        """A missing end stops the start; the error names it and says how to create it."""
        topic = sides.kafka_topic()
        with pytest.raises(BridgeError, match=r"topics/missing does not exist; create it \(gcloud"):
            await sides.bridge(Route(kafka_topic=topic, pub_sub_topic="missing")).start()
        with pytest.raises(BridgeError, match=r"subscriptions/missing does not exist; create it"):
            await sides.bridge(Route(kafka_topic=topic, pub_sub_subscription="missing")).start()
        found = sides.pub_sub_topic()
        with pytest.raises(BridgeError, match="Kafka has no topic 'missing'"):
            await sides.bridge(Route(kafka_topic="missing", pub_sub_topic=found)).start()

    async def test_missing_ends_are_created_when_that_is_asked_for(self, sides: Sides) -> None:
        """With create = true the start creates topic and subscription in Pub/Sub."""
        first, last = sides.kafka_topic(), sides.kafka_topic()
        topic, subscription = f"new-{first}", f"new-sub-{first}"
        async with sides.mirroring(
            Route(
                kafka_topic=last,
                pub_sub_subscription=subscription,
                pub_sub_topic=topic,
                create=True,
            ),
            Route(kafka_topic=first, pub_sub_topic=topic, create=True),
        ):
            sides.send(first, [b"hello"])
            (message,) = await asyncio.to_thread(sides.read_kafka, last, 1)
        assert message.value() == b"hello"

    async def test_routes_in_a_circle_stop_the_start(self, sides: Sides) -> None:
        """A subscription of the topic that a route publishes to cannot feed that route."""
        images, topic = sides.kafka_topic(), sides.pub_sub_topic()
        subscription = sides.subscription(topic)
        with pytest.raises(BridgeError, match="in a circle"):
            await sides.bridge(
                Route(kafka_topic=images, pub_sub_topic=topic),
                Route(kafka_topic=images, pub_sub_subscription=subscription),
            ).start()

    async def test_a_circle_of_two_bridges_ends_after_one_round(self, sides: Sides) -> None:
        """A message that two bridges mirror to each other reaches each place once."""
        images, topic = sides.kafka_topic(), sides.pub_sub_topic()
        subscription, other = sides.subscription(topic), sides.subscription(topic)
        there = Route(kafka_topic=images, pub_sub_topic=topic)
        back = Route(kafka_topic=images, pub_sub_subscription=subscription)
        sides.send(images, [b"once"])
        async with sides.mirroring(there), sides.mirroring(back) as second:
            await eventually("end", lambda: second.stats[back.name].skipped == 1)
            messages = await asyncio.to_thread(sides.read_pub_sub, other, 1)
            assert second.stats[back.name].mirrored == 0
        assert len(messages) == 1

    async def test_a_route_filters_by_header(self, sides: Sides) -> None:
        """Only messages with the headers of `where` are mirrored; the others hold up no message."""
        first, topic = sides.kafka_topic(), sides.pub_sub_topic()
        subscription = sides.subscription(topic)
        sides.send(first, [b"no"])
        sides.send(first, [b"other"], headers=[("kind", b"other")])
        sides.send(first, [b"yes"], headers=[("kind", b"image")])
        route = Route(kafka_topic=first, pub_sub_topic=topic, where={"kind": "image"})
        async with sides.mirroring(route) as bridge:
            (message,) = await asyncio.to_thread(sides.read_pub_sub, subscription, 1)
            await eventually("skipped", lambda: bridge.stats[route.name].skipped == 2)
        assert message.data == b"yes"
