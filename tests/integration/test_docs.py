"""Every command and snippet in docs/, run as it stands; the README's are run in acceptance."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from confluent_kafka import Consumer, Producer
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

from tests.documents import Document, all_documents
from tests.project import ROOT
from tests.trainer_here import run_here
from worker.messages.commands import StartTraining, parse_command
from worker.testing import EmbeddedKafka, FakePubSub, TopicReader
from worker.testing.digits import write_idx_files

TRAINING, PARAMS, TUNING, CHECKPOINTS, COMMANDS, STREAMING, SECURITY, TESTING = (
    Document(f"docs/{name}.md")
    for name in (
        *("training", "params", "tuning", "checkpoints"),
        *("commands", "streaming", "security", "testing"),
    )
)
KAFKA = "localhost:9092"  # the address in the docs; here it is a free port
TRAINER = "python -m trainer "
RUN_HERE = {
    "first run": TRAINING.block("bash", "unpack"),
    "from Python": TRAINING.block("python", "fit(params"),
    "two processes": TRAINING.block("bash", "torchrun"),
    "params": PARAMS.block("bash", "trainer params"),
    "folds": TUNING.block("bash", "cross-validate"),
    "batch size": TUNING.block("bash", "find-batch-size"),
    "learning rate": TUNING.block("bash", "find-lr"),
    "inspect": CHECKPOINTS.block("bash", "inspect"),
    "export": CHECKPOINTS.block("bash", "export"),
    "command": COMMANDS.block("python", "Producer"),
    "payload": STREAMING.block("python", "payload = "),
    "Kafka payload": STREAMING.block("python", "streaming.kafka"),
    "Pub/Sub payload": STREAMING.block("python", "streaming.pubsub"),
    "secured producer": SECURITY.block("python", "Producer"),
    "deployment": TESTING.block("python", "write_digits"),
}
RUN_ELSEWHERE = {
    "streaming/test_demo.py": STREAMING.block("bash", "streaming.demo"),
    "acceptance/secure": SECURITY.block("bash", "start_kafka.sh --secure"),
    "acceptance/secure/test_kept_out.py": SECURITY.block("bash", "faust -A worker"),
    "acceptance/chaos/test_restarts.py": TESTING.block("python", "ordeal"),
}
"""Commands that run until they are stopped, with the tests that start and stop them."""


class Folder:
    """A folder in which commands are run: with digits as idx files, then with what they make."""

    def __init__(self, path: Path) -> None:
        self.path = path
        write_idx_files(path / "idx", 160, 20)

    def shell(self, text: str) -> str:
        """Run a block; the trainer's commands in this process, which has imported everything."""
        output = ""
        for line in text.replace("\\\n", " ").splitlines():
            typed = re.sub(r"\$\((.*?)\)", lambda found: self.shell(found[1]).strip(), line)
            output += self._trainer(typed) if typed.startswith(TRAINER) else self._process(typed)
        return output

    def _trainer(self, line: str) -> str:
        done = run_here(self.path, shlex.split(line.removeprefix(TRAINER)))
        assert done.returncode == 0, f"{line} ended with {done.returncode}\n{done.stderr}"
        return done.stdout

    def _process(self, line: str) -> str:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["/bin/bash", "-ec", line],
            cwd=self.path,
            env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """A folder in which the first run was done, with one thread: two crawl on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    made = Folder(tmp_path_factory.mktemp("docs"))
    assert '"label"' in made.shell(RUN_HERE["first run"])
    yield made
    torch.set_num_threads(threads)


def test_trainer_in_python(folder: Folder) -> None:
    """The snippet trains, evaluates and loads a classifier."""
    with contextlib.chdir(folder.path), contextlib.redirect_stdout(io.StringIO()) as output:
        exec(RUN_HERE["from Python"], {})

    assert output.getvalue().startswith("finished")


def test_trainer_with_two_processes(folder: Folder) -> None:
    """The command trains with two processes."""
    assert "finished" in folder.shell(RUN_HERE["two processes"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("params", "batch_size"),
        ("folds", "fold"),
        ("batch size", "--set batch_size="),
        ("learning rate", "finished"),
        ("inspect", "sha256"),
        ("export", "model.pt2"),
    ],
)
def test_trainer_commands(folder: Folder, name: str, said: str) -> None:
    """Each command ends with 0 and prints what the page promises."""
    assert said in folder.shell(RUN_HERE[name])


@pytest.fixture
def kafka() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as kafka:
        for topic in ("images-control", "python-tester"):
            kafka.create_topic(topic, partitions=1)
        yield kafka


def test_command_is_sent(kafka: EmbeddedKafka) -> None:
    """The snippet sends a command that a worker understands."""
    exec(RUN_HERE["command"].replace(KAFKA, kafka.bootstrap), {})

    with contextlib.closing(TopicReader(kafka.bootstrap, "images-control")) as reader:
        (record,) = reader.until("command", bool, 20.0)
    assert isinstance(parse_command(record.value, default_id="none"), StartTraining)


def payload_of_the_page() -> dict[str, Any]:
    """Run the snippet that makes a payload, and return it."""
    names: dict[str, Any] = {"time": time, "img": np.zeros((28, 28), np.uint8)}
    exec(RUN_HERE["payload"], names)
    payload: dict[str, Any] = names["payload"]
    return payload


def test_kafka_payload(kafka: EmbeddedKafka) -> None:
    """The snippet publishes a payload and consumes it."""
    received: list[bytes] = []
    settings = {"bootstrap.servers": kafka.bootstrap, "group.id": "me"}
    consumer = Consumer(settings | {"auto.offset.reset": "earliest"})
    names = {
        "params": {},
        "publisher": Producer({"bootstrap.servers": kafka.bootstrap}),
        "payload": payload_of_the_page(),
        "consumer": consumer,
        "callback": lambda message: bool(received.append(message.value)),
    }
    with contextlib.closing(consumer):
        exec(RUN_HERE["Kafka payload"], names)

    assert b'"data":7' in received[0]


def test_pub_sub_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    """The snippet publishes a payload and consumes it for TIMEOUT seconds."""
    received: list[Any] = []
    with FakePubSub() as fake:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", fake.host)
        publisher = PublisherClient()
        topic = publisher.topic_path("my-project", "python-tester")
        publisher.create_topic(name=topic)
        with SubscriberClient() as subscriber:
            name = subscriber.subscription_path("my-project", "python-tester-sub")
            subscriber.create_subscription(name=name, topic=topic)
            names = {
                "params": {"PUB_SUB_PROJECT": "my-project", "TIMEOUT": 1.0},
                "publisher": publisher,
                "payload": payload_of_the_page(),
                "subscriber": subscriber,
                "callback": lambda message: received.append(message) or message.ack(),
            }
            exec(RUN_HERE["Pub/Sub payload"], names)
        publisher.stop()
        publisher.transport.close()

    assert [message.attributes["colour"] for message in received] == ["grey"]


def test_secured_producer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The snippet makes a producer from the worker's own settings."""
    monkeypatch.setenv("KAFKA_HOST", "SASL_SSL://127.0.0.1:9092")
    monkeypatch.setenv("DARKROOM_KAFKA_USERNAME", "darkroom")
    monkeypatch.setenv("DARKROOM_KAFKA_PASSWORD", "secret")
    names: dict[str, Any] = {}

    exec(RUN_HERE["secured producer"], names)

    assert isinstance(names["producer"], Producer)


def test_deployment(tmp_path: Path) -> None:
    """The snippet trains a worker's model, and judges its predictions."""
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(io.StringIO()) as output:
        exec(RUN_HERE["deployment"], {})

    assert float(output.getvalue().split()[1].rstrip(",")) > 0.5


def test_every_block_is_run() -> None:
    """No command or snippet of docs/ is left out; unit tests read the JSON and the TOML."""
    commands = {
        block.text
        for document in all_documents()
        if document.name.startswith("docs/")
        for block in document.blocks
        if block.language in {"bash", "python"}
    }

    assert commands == {*RUN_HERE.values(), *RUN_ELSEWHERE.values()}
