"""The scripts start real brokers, keep their messages, and say what is missing."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from tests.project import ROOT
from worker.testing.clients.topics import create_topic
from worker.testing.programs.brokers import PubSubEmulator, RealKafka
from worker.testing.programs.processes import clean_environment

SCRIPTS = ["start_kafka.sh", "start_pubsub.sh"]


def run(script: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / script, *options],
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def first_value(bootstrap: str, topic: str, group: str = "first") -> bytes | None:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    message = consumer.poll(30.0)
    consumer.close()
    assert message is not None
    return message.value()


def test_kafka_keeps_its_messages_through_a_kill_and_a_stop(tmp_path: Path) -> None:
    """A confirmed message survives kill -9 and SIGTERM, at the same address."""
    with RealKafka(tmp_path) as kafka:
        create_topic(kafka.bootstrap, "images")
        producer = Producer({"bootstrap.servers": kafka.bootstrap})
        producer.produce("images", b"kept")
        assert producer.flush(30.0) == 0
        address = kafka.bootstrap
        kafka.kill()
        kafka.start()
        assert address == kafka.bootstrap
        assert first_value(address, "images") == b"kept"
        kafka.stop()
        kafka.start()
        assert first_value(address, "images", "second") == b"kept"
    assert not kafka.is_running


def test_pubsub_runs_on_a_free_port_of_the_loopback_interface(tmp_path: Path) -> None:
    """The emulator takes connections at the address that its ready line names."""
    with PubSubEmulator(tmp_path) as emulator:
        host, _, port = emulator.host.partition(":")
        assert host == "127.0.0.1"
        socket.create_connection((host, int(port)), timeout=5).close()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_taken_port_is_named_with_the_remedy(script: str, tmp_path: Path) -> None:
    """A port that is in use ends the script with a remedy."""
    data = ["--data", str(tmp_path)] if script == "start_kafka.sh" else []
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = run(script, "--port", str(port), *data)
    assert done.returncode != 0
    assert f"port {port} is in use" in done.stderr
    assert "--port" in done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_missing_java_is_named_with_what_to_install(script: str, tmp_path: Path) -> None:
    """Without Java 17 the script names the package that brings it, and ends."""
    done = run(script, JAVA_HOME=str(tmp_path))
    assert done.returncode == 69
    assert "needs Java 17" in done.stderr
    assert "apt install openjdk-17" in done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_wrong_option_is_named(script: str) -> None:
    """An unknown option and a port out of range are refused by name."""
    assert "unknown option --prot" in run(script, "--prot", "1").stderr
    assert "--port 70000" in run(script, "--port", "70000").stderr


def test_a_wrong_kafka_home_is_named(tmp_path: Path) -> None:
    """KAFKA_HOME without a Kafka in it is an error that names it, not a download."""
    done = run("start_kafka.sh", KAFKA_HOME=str(tmp_path))
    assert done.returncode == 1
    assert f"KAFKA_HOME={tmp_path}" in done.stderr


def test_a_missing_maven_is_named_with_the_other_way(tmp_path: Path) -> None:
    """Where Kafka has to be fetched and Maven is missing, the message offers both remedies."""
    for tool in ("bash", "dirname", "env", "sed", "head", "cat", "mkdir", "java", "ls"):
        found = next(
            Path(folder) / tool
            for folder in os.environ["PATH"].split(":")
            if (Path(folder) / tool).exists()
        )
        (tmp_path / tool).symlink_to(found)
    done = run("start_kafka.sh", PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 69
    assert "apt install maven" in done.stderr
    assert "KAFKA_HOME" in done.stderr


def test_an_emulator_that_runs_already_is_only_checked() -> None:
    """With PUBSUB_EMULATOR_HOST set nothing is started; what answers nobody is an error."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        done = run("start_pubsub.sh", PUBSUB_EMULATOR_HOST=address)
        assert done.stdout == f"Pub/Sub is ready at {address}\n"
    done = run("start_pubsub.sh", PUBSUB_EMULATOR_HOST=address)
    assert done.returncode == 1
    assert f"PUBSUB_EMULATOR_HOST={address}" in done.stderr
