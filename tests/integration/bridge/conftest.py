"""The embedded Kafka and the fake Pub/Sub for the bridge, anew for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.bridge.mirrored import Sides, use_emulator
from worker.testing import EmbeddedKafka
from worker.testing.fake_pubsub import FakePubSub


@pytest.fixture
def kafka() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as broker:
        broker.create_topic("dead-letters", 1)
        yield broker


@pytest.fixture
def fake() -> Iterator[FakePubSub]:
    with FakePubSub() as server:
        yield server


@pytest.fixture
def sides(
    kafka: EmbeddedKafka, fake: FakePubSub, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sides]:
    use_emulator(monkeypatch, fake.host)
    both = Sides(kafka.bootstrap, fake.host, lambda name: kafka.create_topic(name, 3))
    yield both
    both.close()
