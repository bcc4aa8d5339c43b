"""The bridge between a real Kafka and Google's emulator, with kill -9 and outages."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.brokers import PubSubEmulator, RealKafka, pubsub_emulator, real_kafka
from tests.integration.bridge.bridge_contract import BridgeContract
from tests.integration.bridge.mirrored import (
    YESTERDAY_MS,
    Sides,
    eventually,
    numbered,
    use_emulator,
)
from tests.worker_process import ROOT, clean_environment
from worker.bridge.mapping import MARKS
from worker.bridge.routes import Route

KILLS = int(os.environ.get("DARKROOM_TEST_KILLS", "4"))
"""How often the bridge is killed; 20 in the long form."""


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKafka]:
    with real_kafka(tmp_path_factory.mktemp("broker")) as broker:
        create(broker.bootstrap, "dead-letters")
        yield broker


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PubSubEmulator]:
    with pubsub_emulator(tmp_path_factory.mktemp("pubsub")) as server:
        yield server


@pytest.fixture
def sides(
    kafka: RealKafka, emulator: PubSubEmulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sides]:
    use_emulator(monkeypatch, emulator.host)
    both = Sides(kafka.bootstrap, emulator.host, lambda name: create(kafka.bootstrap, name))
    yield both
    both.close()


def create(bootstrap: str, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, 3, 1)])[name].result(30.0)


class TestOnRealBrokers(BridgeContract):
    """Every claim of the contract."""


async def test_arbitrary_messages_come_back_identical(sides: Sides) -> None:
    """Whatever hypothesis thinks of, sent through both brokers, comes back as it was."""
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
        sides._producer.produce(first, name, key=key, headers=headers, timestamp=timestamp)
        sent[name] = (key, headers, timestamp)

    send()
    assert sides._producer.flush(30.0) == 0
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


def start_bridge(sides: Sides, routes: list[Route], log: Path) -> subprocess.Popen[bytes]:
    output = log.open("ab")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.acceptance.bridge.bridge_process",
            sides.bootstrap,
            *(route.model_dump_json() for route in routes),
        ],
        cwd=ROOT,
        env=clean_environment() | {"PUBSUB_EMULATOR_HOST": sides.host},
        stdout=subprocess.PIPE,
        stderr=output,
    )
    output.close()
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n", log.read_text()[-3000:]
    return process


@pytest.mark.timeout(600)
def test_kill_9_under_load_loses_nothing_on_the_way_out(sides: Sides, tmp_path: Path) -> None:
    """Killed again and again while messages come, every id arrives in Pub/Sub."""
    first, out = sides.kafka_topic(), sides.pub_sub_topic()
    seen_out = sides.subscription(out)
    routes = [Route(kafka_topic=first, pub_sub_topic=out)]
    values = numbered(400 * KILLS)
    stopped = threading.Event()

    def load() -> None:
        for start in range(0, len(values), 100):
            sides.send(first, values[start : start + 100])
            stopped.wait(0.4)

    sending = threading.Thread(target=load)
    sending.start()
    for number in range(KILLS):
        process = start_bridge(sides, routes, tmp_path / "bridge.log")
        time.sleep(0.5 + number % 3)
        process.kill()
        process.communicate()
    process = start_bridge(sides, routes, tmp_path / "bridge.log")
    try:
        sending.join()
        came_out = sides.read_pub_sub(seen_out, len(values), 120.0)
    finally:
        stopped.set()
        process.terminate()
        process.communicate()
    assert process.returncode == 0
    assert {one.data for one in came_out} == set(values)


async def test_kafka_may_be_killed_and_come_back(sides: Sides, kafka: RealKafka) -> None:
    """A Kafka that dies under load and is back after five seconds costs nothing but time."""
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
        await asyncio.to_thread(kafka.kill)
        await asyncio.sleep(5.0)
        await asyncio.to_thread(kafka.start)
        came = await asyncio.to_thread(sides.read_kafka, last, len(values), 120.0)
    assert {one.value() for one in came} == set(values)
