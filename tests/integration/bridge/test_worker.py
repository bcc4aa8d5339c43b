"""A worker whose bridge cannot start ends with one message and a non-zero exit code."""

from __future__ import annotations

from pathlib import Path

from worker.testing.fake_pubsub import FakePubSub
from worker.testing.programs.worker_process import WorkerProcess

TOPIC = "projects/my-project/topics/python-tester"
KEYS = {"PUB_SUB_PROJECT": "my-project", "PUB_SUB_TOPIC": "python-tester"}


def end_of(folder: Path, settings: dict[str, str]) -> str:
    """Run a worker that cannot start, and return its last line."""
    with WorkerProcess(folder, settings=KEYS | settings) as worker:
        assert worker.wait(20.0) == 1
    assert "Traceback" not in worker.log
    return worker.log.strip().splitlines()[-1]


def test_a_missing_topic_ends_the_start(tmp_path: Path) -> None:
    """The message names the topic and the command that creates it."""
    with FakePubSub() as fake:
        line = end_of(tmp_path, {"PUBSUB_EMULATOR_HOST": fake.host})
    assert line.startswith(f"Error: {TOPIC} does not exist; create it (gcloud pubsub topics create")


def test_credentials_that_pub_sub_refuses_end_the_start(tmp_path: Path) -> None:
    """The message says that the credentials are wrong or expired, and what to set."""
    with FakePubSub() as fake:
        fake.create_topic(TOPIC)
        fake.faults.refuses_credentials = True
        line = end_of(tmp_path, {"PUBSUB_EMULATOR_HOST": fake.host})
    assert line.startswith(f"Error: {TOPIC}: the credentials are wrong, expired or lack the right")
    assert "set GOOGLE_APPLICATION_CREDENTIALS" in line
