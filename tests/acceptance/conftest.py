"""A real Kafka and Google's emulator, one of each for all tests of a process.

What stops, kills or fills its broker has its own: `mortal_kafka`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.testing import PubSubEmulator, RealKafka
from worker.testing.clients.topics import create_topic

SHORT_LIVED = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Java compiles quickly and not well: brokers that live for a minute take half the time so."""

os.environ.setdefault("KAFKA_JVM_PERFORMANCE_OPTS", SHORT_LIVED)
os.environ.setdefault("PUBSUB_EMULATOR_OPTS", f"-Xmx1g {SHORT_LIVED}")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKafka]:
    with RealKafka(tmp_path_factory.mktemp("kafka")) as kafka:
        create_topic(kafka.bootstrap, "dead-letters", 3)
        yield kafka


@pytest.fixture(scope="session")
def kafka_host(kafka: RealKafka) -> str:
    """The value of KAFKA_HOST."""
    return kafka.bootstrap


@pytest.fixture
def mortal_kafka(tmp_path: Path) -> Iterator[RealKafka]:
    """A Kafka of the test's own, which it may stop."""
    with RealKafka(tmp_path / "broker") as kafka:
        create_topic(kafka.bootstrap, "dead-letters", 3)
        yield kafka


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PubSubEmulator]:
    with PubSubEmulator(tmp_path_factory.mktemp("pubsub")) as emulator:
        yield emulator
