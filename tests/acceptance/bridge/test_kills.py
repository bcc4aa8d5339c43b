"""The bridge killed under load, between a real Kafka and Google's emulator."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.bridge.mirrored import PubsubMessage, Sides, numbered
from tests.project import ROOT
from worker.bridge.messages.routes import Route
from worker.testing.programs.processes import clean_environment, tied_to_this_process

KILLS = int(os.environ.get("DARKROOM_TEST_KILLS", "3"))
"""How often the bridge is killed; 20 in the long form."""
MESSAGES_A_KILL = 600
CHUNK = 50
LEASES_S = 60.0
"""After the last kill the streams of the killed end with their deadline of 15 s, and after it the
leases, of 30 s, of what they had taken."""


@pytest.mark.timeout(180 + 30 * KILLS)
def test_kill_9_under_load_loses_nothing_either_way(sides: Sides, tmp_path: Path) -> None:
    """After several kills while messages go both ways, every id has arrived on both sides."""
    first, last = sides.kafka_topic(), sides.kafka_topic()
    out, into = sides.pub_sub_topic(), sides.pub_sub_topic()
    seen_out, feeds_in = sides.subscription(out), sides.subscription(into)
    routes = [
        Route(kafka_topic=first, pub_sub_topic=out),
        Route(kafka_topic=last, pub_sub_subscription=feeds_in),
    ]
    values = numbered(MESSAGES_A_KILL * KILLS)

    def send(chunk: list[bytes]) -> None:
        sides.send(first, chunk)
        sides.publish(into, [PubsubMessage(data=value) for value in chunk])

    log = tmp_path / "bridge.log"
    with Load(values, send):
        for number in range(KILLS):
            bridge = start_bridge(sides, routes, log)
            assert bridge.stdout is not None
            assert bridge.stdout.readline() == b"mirrors\n", log.read_text()[-3000:]
            time.sleep(0.1 + 0.5 * (number % 3))
            bridge.kill()
            bridge.communicate()
        bridge = start_bridge(sides, routes, log)
    try:
        came_out = sides.read_pub_sub(seen_out, len(values), 60.0)
        came_in = sides.read_kafka(last, len(values), LEASES_S + 30.0)
    finally:
        bridge.terminate()
        bridge.communicate()
    assert bridge.returncode == 0, log.read_text()[-3000:]
    assert {one.data for one in came_out} == set(values)
    assert {one.value() for one in came_in} == set(values)


class Load:
    """Messages sent by a thread, a chunk at a time while it is entered, then all the rest at once.

    The kills set the pace: what is left when they are over is sent at once.
    """

    def __init__(self, values: list[bytes], send: Callable[[list[bytes]], None]) -> None:
        self._chunks = [values[start : start + CHUNK] for start in range(0, len(values), CHUNK)]
        self._send = send
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        for chunk in self._chunks:
            self._send(chunk)
            self._is_over.wait(0.25)


def start_bridge(sides: Sides, routes: list[Route], log: Path) -> subprocess.Popen[bytes]:
    """Run a bridge in a process of its own, and wait until it is ready."""
    program = [sys.executable, "-m", "worker.testing.programs.bridge_process", sides.bootstrap]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*tied_to_this_process(), *program, *(route.model_dump_json() for route in routes)],
            cwd=ROOT,
            env=clean_environment() | {"PUBSUB_EMULATOR_HOST": sides.host},
            stdout=subprocess.PIPE,
            stderr=output,
        )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n", log.read_text()[-3000:]
    return process
