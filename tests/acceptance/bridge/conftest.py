"""What stands on both sides of the bridge: a real Kafka and Google's emulator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest

from tests.integration.bridge.mirrored import Sides, use_emulator
from worker.testing import PubSubEmulator, RealKafka
from worker.testing.clients.topics import create_topic


def sides_of(kafka: RealKafka, emulator: PubSubEmulator) -> Sides:
    create = partial(create_topic, kafka.bootstrap, partitions=3)
    return Sides(kafka.bootstrap, emulator.host, create)


@pytest.fixture
def sides(
    kafka: RealKafka, emulator: PubSubEmulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sides]:
    use_emulator(monkeypatch, emulator.host)
    with closing(sides_of(kafka, emulator)) as both:
        yield both


@pytest.fixture
def mortal_sides(
    mortal_kafka: RealKafka, emulator: PubSubEmulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sides]:
    """A Kafka of the test's own, `mortal_kafka`, on the one side."""
    use_emulator(monkeypatch, emulator.host)
    with closing(sides_of(mortal_kafka, emulator)) as both:
        yield both
