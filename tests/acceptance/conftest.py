"""A real Kafka and Google's emulator, one of each for the whole test run.

What stops, kills or fills its broker has its own: `mortal_kafka`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.shared_broker import shared
from tests.turns import folder_of_the_run
from worker.testing import PubSubEmulator, RealKafka
from worker.testing.clients.topics import create_topic

SHORT_LIVED = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Java compiles quickly and not well: brokers that live for a minute take half the time so."""

os.environ.setdefault("KAFKA_JVM_PERFORMANCE_OPTS", SHORT_LIVED)
os.environ.setdefault("PUBSUB_EMULATOR_OPTS", f"-Xmx1g {SHORT_LIVED}")

until_the_end = ExitStack()
"""What the processes of the run share, and let go when all of them have ended."""


def pytest_sessionfinish() -> None:
    until_the_end.close()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> RealKafka:
    folder = folder_of_the_run(tmp_path_factory) / "kafka"
    kafka = RealKafka(folder)

    def prepare() -> None:
        create_topic(kafka.bootstrap, "dead-letters", 3)

    until_the_end.enter_context(shared(kafka, folder, prepare))
    return kafka


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
def emulator(tmp_path_factory: pytest.TempPathFactory) -> PubSubEmulator:
    folder = folder_of_the_run(tmp_path_factory) / "pubsub"
    emulator = PubSubEmulator(folder)
    until_the_end.enter_context(shared(emulator, folder))
    return emulator
