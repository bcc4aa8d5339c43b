"""A real Kafka and Google's emulator for the bridge, one of each for a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.bridge.mirrored import Sides, use_emulator
from worker.testing.brokers import PubSubEmulator, RealKafka
from worker.testing.topics import create_topic


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKafka]:
    with RealKafka(tmp_path_factory.mktemp("broker")) as broker:
        create_topic(broker.bootstrap, "dead-letters", 3)
        yield broker


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PubSubEmulator]:
    with PubSubEmulator(tmp_path_factory.mktemp("pubsub")) as server:
        yield server


@pytest.fixture
def sides(
    kafka: RealKafka, emulator: PubSubEmulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sides]:
    use_emulator(monkeypatch, emulator.host)
    both = Sides(
        kafka.bootstrap, emulator.host, lambda name: create_topic(kafka.bootstrap, name, 3)
    )
    yield both
    both.close()
