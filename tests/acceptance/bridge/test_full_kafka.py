"""A Kafka whose disk is full for a while: the bridge waits, loses nothing, and goes on by itself.

Pub/Sub is the fake, which tells what was acknowledged.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.integration.bridge.mirrored import (
    OUTAGE_S,
    PubsubMessage,
    Sides,
    eventually,
    numbered,
    use_emulator,
)
from worker.bridge.messages.routes import Route
from worker.testing.clients.topics import create_topic
from worker.testing.fake_pubsub import FakePubSub
from worker.testing.programs.brokers import RealKafka

SMALL, LARGE = "24m", "200m"
SOON_BACK = ["broker.session.timeout.ms=2000", "broker.heartbeat.interval.ms=500"]
"""A Kafka that has died may join again when its last session is over: 9 s by default."""
MOST_OUTSTANDING = 20_000
MESSAGES_OF_A_RESPONSE = 1000


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePubSub]:
    with FakePubSub() as server:
        use_emulator(monkeypatch, server.host)
        yield server


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Where a Kafka in `tmp_path` keeps its messages: a file system with little room."""
    folder = tmp_path / "kafka"
    folder.mkdir()
    mount(folder, f"size={SMALL}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def mount(folder: Path, options: str) -> None:
    """Mount a file system in memory, or change the one that is mounted there."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{' '.join(command)}: {done.stderr.strip()}; run it as root on Linux")


async def test_a_kafka_whose_disk_is_full_is_waited_for(disk: Path, fake: FakePubSub) -> None:
    """Kafka ends when its disk is full; started again with room, it gets every message."""
    values = [value + b"." * 1500 for value in numbered(30_000)]
    with RealKafka(disk.parent, SOON_BACK) as kafka:
        create = partial(create_topic, kafka.bootstrap, partitions=3)
        sides = Sides(kafka.bootstrap, fake.host, create)
        topic, target = sides.pub_sub_topic(), sides.kafka_topic()
        route = Route(kafka_topic=target, pub_sub_subscription=sides.subscription(topic))
        (state,) = fake.subscriptions.values()
        async with sides.mirroring(route) as bridge:
            stats = bridge.stats[route.name]
            sides.publish(topic, [PubsubMessage(data=value) for value in values])
            await eventually("full disk", lambda: not kafka.is_running)
            await eventually("waiting", lambda: stats.waiting_for)
            await asyncio.sleep(OUTAGE_S)
            assert stats.waiting_for
            assert 0 < state.acked <= stats.mirrored < len(values)
            assert 0 < stats.outstanding <= MOST_OUTSTANDING + MESSAGES_OF_A_RESPONSE
            mount(disk, f"remount,size={LARGE}")
            await asyncio.to_thread(kafka.start)
            came = await asyncio.to_thread(sides.read_kafka, target, len(values), 60.0)
            await eventually("acknowledgements", lambda: state.acked == len(values))
            assert not stats.waiting_for
        assert "No space left on device" in kafka.log
        sides.close()
    assert {one.value() for one in came} == set(values)
