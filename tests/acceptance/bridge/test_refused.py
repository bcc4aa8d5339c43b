"""Messages that one side will never accept, between a real Kafka and Google's emulator."""

from __future__ import annotations

import asyncio

from tests.acceptance.bridge.topics import narrow_topic
from tests.integration.bridge.mirrored import PubsubMessage, Sides, eventually, numbered
from worker.bridge.messages.routes import Route

LARGE = b"x" * 200_000


async def test_what_kafka_has_no_room_for_is_dead_lettered_alone(sides: Sides) -> None:
    """Messages over the topic's limit are dead letters, untouched; all others arrive."""
    narrow, letters, topic = narrow_topic(sides), sides.kafka_topic(), sides.pub_sub_topic()
    subscription = sides.subscription(topic)
    small = numbered(1500)
    messages = [PubsubMessage(data=data) for data in small]
    for number in range(3):
        large = PubsubMessage(data=LARGE + b"%d" % number, attributes={"colour": "grey"})
        messages.insert(400 * number + 1, large)
    route = Route(kafka_topic=narrow, pub_sub_subscription=subscription)
    async with sides.mirroring(route, dead_letters_topic=letters) as bridge:
        for start in range(0, len(messages), 100):
            sides.publish(topic, messages[start : start + 100])
        came = await asyncio.to_thread(sides.read_kafka, narrow, len(small))
        found = await asyncio.to_thread(sides.read_kafka, letters, 3)
        stats = bridge.stats[route.name]
        await eventually("end", lambda: (stats.dead_letters, stats.outstanding) == (3, 0))
    assert sorted(one.value() for one in came) == small
    assert sorted(one.value() for one in found) == [LARGE + b"%d" % number for number in range(3)]
    headers = dict(found[0].headers())
    assert (headers["reason"], headers["target-topic"]) == (b"too-large", narrow.encode())
    assert headers["source-subscription"].endswith(subscription.encode())
    assert headers["colour"] == b"grey"


async def test_a_record_that_kafka_refuses_is_dead_lettered_alone(sides: Sides) -> None:
    """A compacted topic refuses a message without a key; its neighbours in the batch arrive."""
    compacted = narrow_topic(sides, cleanup_policy="compact")
    letters, topic = sides.kafka_topic(), sides.pub_sub_topic()
    route = Route(kafka_topic=compacted, pub_sub_subscription=sides.subscription(topic))
    keyed = [
        PubsubMessage(
            data=data, attributes={"darkroom.origin": "kafka/c/t/0/1", "darkroom.key": "k"}
        )
        for data in numbered(200)
    ]
    async with sides.mirroring(route, dead_letters_topic=letters):
        sides.publish(topic, [*keyed[:100], PubsubMessage(data=b"no key"), *keyed[100:]])
        came = await asyncio.to_thread(sides.read_kafka, compacted, 200)
        (letter,) = await asyncio.to_thread(sides.read_kafka, letters, 1)
    assert sorted(one.value() for one in came) == numbered(200)
    assert (letter.value(), dict(letter.headers())["reason"]) == (b"no key", b"refused")


async def test_what_even_the_dead_letters_have_no_room_for_stays_in_pub_sub(sides: Sides) -> None:
    """It is not acknowledged, a dead letter without its value reports it, and the rest arrive."""
    narrow, letters, topic = narrow_topic(sides), narrow_topic(sides), sides.pub_sub_topic()
    route = Route(kafka_topic=narrow, pub_sub_subscription=sides.subscription(topic))
    messages = [PubsubMessage(data=data) for data in (b"before", LARGE, b"after")]
    async with sides.mirroring(route, dead_letters_topic=letters) as bridge:
        sides.publish(topic, messages)
        came = await asyncio.to_thread(sides.read_kafka, narrow, 2)
        (letter,) = await asyncio.to_thread(sides.read_kafka, letters, 1)
        await eventually("held back", lambda: bridge.stats[route.name].held_back == 1)
    assert sorted(one.value() for one in came) == [b"after", b"before"]
    assert letter.value() is None
    assert dict(letter.headers())["value-omitted"] == b"true"


async def test_what_pub_sub_has_no_room_for_is_dead_lettered_alone(sides: Sides) -> None:
    """A message of more than 10 MB is a dead letter, whole; its neighbours arrive."""
    first, letters, topic = sides.kafka_topic(), sides.kafka_topic(), sides.pub_sub_topic()
    subscription = sides.subscription(topic)
    huge = b"y" * 10_000_001
    route = Route(kafka_topic=first, pub_sub_topic=topic)
    sides.send(first, [b"before", huge, b"after"])
    async with sides.mirroring(route, dead_letters_topic=letters):
        came = await asyncio.to_thread(sides.read_pub_sub, subscription, 2)
        (letter,) = await asyncio.to_thread(sides.read_kafka, letters, 1)
    assert sorted(one.data for one in came) == [b"after", b"before"]
    assert letter.value() == huge
    assert dict(letter.headers())["reason"] == b"too-large"
