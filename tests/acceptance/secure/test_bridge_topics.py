"""A route that may create its Kafka topic does so by the bridge's own connection."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from confluent_kafka.admin import AdminClient

from tests.acceptance.secure.secure_kafka import SecureKafka
from tests.integration.bridge.mirrored import PROJECT, PubsubMessage, Sides, use_emulator
from worker.bridge.messages.routes import Route
from worker.bridge.service import Bridge
from worker.kafka.broker import Broker
from worker.testing.clients.kafka_clients import client_settings
from worker.testing.fake_pubsub import FakePubSub
from worker.testing.programs.waiting import wait_until


async def test_a_route_creates_its_topic_on_a_secured_kafka(
    secure_kafka: SecureKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With create = true the topic is made with user and TLS, and messages arrive in it."""
    with FakePubSub() as pub_sub:
        use_emulator(monkeypatch, pub_sub.host)
        sides = Sides("unused:9092", pub_sub.host, create=lambda name: None)
        topic = sides.pub_sub_topic()
        route = Route(
            kafka_topic=f"made-{uuid.uuid4().hex[:8]}",
            pub_sub_subscription=sides.subscription(topic),
            create=True,
        )
        bridge = Bridge(
            [route],
            broker=Broker(secure_kafka.connection),
            dead_letters_topic="dead-letters",
            project=PROJECT,
            timeout_s=10.0,
            partitions=3,
        )
        async with bridge:
            sides.publish(topic, [PubsubMessage(data=b"hello")])
            await asyncio.to_thread(
                wait_until, "message", lambda: bridge.stats[route.name].mirrored == 1, 20.0
            )
        sides.close()
    admin = AdminClient(client_settings(secure_kafka.connection))
    assert len(admin.list_topics(timeout=10.0).topics[route.kafka_topic].partitions) == 3
