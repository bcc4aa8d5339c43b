"""On a secured Kafka a worker does everything, with no more permissions than are documented."""

from __future__ import annotations

import base64
import json
import logging
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from tests.acceptance.secure.secure_kafka import SecureKafka, Variables
from tests.image_forms import MAX_IMAGE_BYTES
from tests.integration.bridge.mirrored import PROJECT, PubsubMessage, Sides
from tests.main_job import MainJob, Trained, watch_the_main_job
from worker.kafka.permissions import CLUSTER, Permission, worker_permissions
from worker.kafka.settings import KafkaSettings
from worker.settings import load_settings
from worker.testing.clients.stream_client import StreamClient
from worker.testing.clients.topic_reader import read_all
from worker.testing.deployment import LocalDeployment, unique_topic
from worker.testing.fake_pubsub import FakePubSub
from worker.testing.labelled_images import LabelledImages

SUFFIXES = ["", "-predictions", "-control", "-events", "-dead-letters"]
PAGES = ["/metrics", "/health/live", "/health/ready"]
CREATE = Permission("cluster", CLUSTER, "Create")
AT_ONCE = 3
N_BRIDGED = 20


def user_of(kafka: SecureKafka, topic: str, *more: Permission) -> Variables:
    """Return the settings of a new user with the documented permissions of a worker."""
    settings = KafkaSettings.model_validate({"KAFKA_TOPIC": topic})
    permissions = worker_permissions(settings.topics, settings.group)
    return kafka.add_user(f"user-of-{topic}", [*permissions, CREATE, *more])


class TestMainJob(MainJob):
    """The main job over SASL_SSL, as a user with the documented permissions and no others."""

    @pytest.fixture(scope="class")
    @classmethod
    def trained(
        cls,
        tmp_path_factory: pytest.TempPathFactory,
        secure_kafka: SecureKafka,
        data: Path,
        images: LabelledImages,
    ) -> Iterator[Trained]:
        folder, topic = tmp_path_factory.mktemp("secure"), unique_topic()
        shutil.copytree(data, folder / "data")
        user = user_of(secure_kafka, topic)
        with LocalDeployment(
            folder, user["KAFKA_HOST"], topic, settings=user, client_kafka=secure_kafka.connection
        ) as deployment:
            deployment.start_worker(DARKROOM_MAX_IMAGE_BYTES=str(MAX_IMAGE_BYTES))
            yield watch_the_main_job(deployment, images)

    def test_the_password_is_nowhere(self, trained: Trained, secure_kafka: SecureKafka) -> None:
        """It is in no file of the worker, on no topic, and on no page, in whatever form."""
        deployment, worker = trained.deployment, trained.deployment.workers[-1]
        password = worker.settings["DARKROOM_KAFKA_PASSWORD"].encode()
        forms = [password, base64.b64encode(password), urllib.parse.quote(password).encode()]
        files = [file for file in deployment.folder.rglob("*") if file.is_file()]
        pages = [f"http://127.0.0.1:{worker.web_port}{page}" for page in PAGES]
        topics = [f"{deployment.topic}{suffix}" for suffix in SUFFIXES]

        written = [file.read_bytes() for file in files if "data" not in file.parts]
        written += [urllib.request.urlopen(page, timeout=10.0).read() for page in pages]
        for topic in topics:
            for record in read_all(secure_kafka.connection, topic):
                written += [record.value, *record.headers.values()]

        assert b"SCRAM" in b"".join(written)  # the log says how it logs in
        assert not [text for text in written for form in forms if form in text]


def copied(trained_folder: Path, folder: Path) -> Path:
    """Copy a log folder with a deployed model, and return the folder with the copy."""
    shutil.copytree(trained_folder, folder, dirs_exist_ok=True)
    return folder


def label_now(client: StreamClient, image: np.ndarray, name: str) -> str:
    """Send an image, and return the label that it gets."""
    client.send_images(image[None], [name])
    return str(client.predictions([name])[name]["label"])


def test_it_serves_again_when_the_broker_is_back(
    trained_folder: Path, images: LabelledImages, tmp_path: Path
) -> None:
    """Kill -9 of the broker and a new start: the worker logs in again and goes on."""
    folder, image = copied(trained_folder, tmp_path), images.images[0]
    with SecureKafka(tmp_path / "broker") as kafka:
        user = kafka.by_password()
        with LocalDeployment(folder, user["KAFKA_HOST"], settings=user) as deployment:
            worker = deployment.start_worker()
            before = label_now(deployment.client, image, "before")
            kafka.kill()
            kafka.start()
            after = label_now(deployment.client, image, "after")
            code = worker.terminate()

    assert (before, after, code) == (images.labels[0], images.labels[0], 0)


def test_a_permission_that_is_taken_away_loses_no_image(
    secure_kafka: SecureKafka, trained_folder: Path, images: LabelledImages, tmp_path: Path
) -> None:
    """A worker that may no longer write predictions ends; the next one answers its image."""
    folder, topic = copied(trained_folder, tmp_path), unique_topic()
    user = user_of(secure_kafka, topic)
    name, write = (
        user["DARKROOM_KAFKA_USERNAME"],
        Permission("topic", f"{topic}-predictions", "Write"),
    )
    with LocalDeployment(
        folder, user["KAFKA_HOST"], topic, settings=user, client_kafka=secure_kafka.connection
    ) as deployment:
        worker, client = deployment.start_worker(), deployment.client
        secure_kafka.disallow(name, write)
        client.send_images(images.images[:1], ["refused"])
        code = worker.wait(60.0)
        secure_kafka.allow(name, [write])
        deployment.start_worker()
        label = str(client.predictions(["refused"])["refused"]["label"])

    assert code != 0
    assert "Topic authorization failed" in worker.log
    assert label == images.labels[0]


async def test_no_level_of_logging_shows_a_login(
    secure_kafka: SecureKafka, caplog: pytest.LogCaptureFixture
) -> None:
    """At level DEBUG aiokafka logs its requests, but not the one with the password."""
    connection = load_settings(secure_kafka.by_password(mechanism="PLAIN")).kafka.connection
    caplog.set_level(logging.DEBUG)
    producer = AIOKafkaProducer(**connection.for_aiokafka())
    await producer.start()
    await producer.stop()

    assert "SaslHandShakeRequest" in caplog.text
    assert secure_kafka.password not in caplog.text


def served_image(
    folder: Path, variables: Variables, kafka: SecureKafka, images: LabelledImages
) -> str:
    """Start a worker with a model, send it an image, and return the label."""
    with LocalDeployment(
        folder, variables["KAFKA_HOST"], settings=variables, client_kafka=kafka.connection
    ) as deployment:
        deployment.start_worker()
        return label_now(deployment.client, images.images[0], "one")


def test_every_way_in_serves(
    secure_kafka: SecureKafka, trained_folder: Path, images: LabelledImages, tmp_path: Path
) -> None:
    """PLAIN and both SCRAMs, with and without TLS, and a certificate: an image is predicted."""
    ways = {
        "PLAIN with TLS": secure_kafka.by_password("SASL_SSL", "PLAIN"),
        "SCRAM-SHA-256 with TLS": secure_kafka.by_password("SASL_SSL", "SCRAM-SHA-256"),
        "PLAIN": secure_kafka.by_password("SASL_PLAINTEXT", "PLAIN"),
        "SCRAM-SHA-256": secure_kafka.by_password("SASL_PLAINTEXT", "SCRAM-SHA-256"),
        "SCRAM-SHA-512": secure_kafka.by_password("SASL_PLAINTEXT", "SCRAM-SHA-512"),
        "certificate": secure_kafka.by_certificate(),
    }
    with ThreadPoolExecutor(AT_ONCE) as threads:
        futures = {}
        for way, variables in ways.items():
            folder = copied(trained_folder, tmp_path / way.replace(" ", "-"))
            futures[way] = threads.submit(served_image, folder, variables, secure_kafka, images)
        labels = {way: future.result() for way, future in futures.items()}

    assert labels == dict.fromkeys(ways, images.labels[0])


def test_the_bridge_serves_on_a_secured_kafka(
    secure_kafka: SecureKafka,
    trained_folder: Path,
    images: LabelledImages,
    tmp_path: Path,
) -> None:
    """Images from Pub/Sub are classified, and the predictions are in Pub/Sub."""
    folder, topic = copied(trained_folder, tmp_path), unique_topic()
    with FakePubSub() as pub_sub:
        sides = Sides("unused:9092", pub_sub.host, create=lambda name: None)
        pictures, predictions = sides.pub_sub_topic(), sides.pub_sub_topic()
        seen = sides.subscription(predictions)
        group = f"{topic}-worker-bridge-{topic}-predictions-{predictions}"
        user = user_of(
            secure_kafka,
            topic,
            Permission("topic", topic, "Write"),
            Permission("topic", f"{topic}-predictions", "Read"),
            Permission("group", group, "Read"),
        )
        bridged = {
            "PUBSUB_EMULATOR_HOST": pub_sub.host,
            "PUB_SUB_PROJECT": PROJECT,
            "PUB_SUB_SUBSCRIPTION": sides.subscription(pictures),
            "PUB_SUB_TOPIC": predictions,
        }
        names = [f"picture-{number}" for number in range(N_BRIDGED)]
        with LocalDeployment(folder, user["KAFKA_HOST"], topic, settings=user) as deployment:
            deployment.start_worker(**bridged)
            messages = [
                PubsubMessage(
                    data=json.dumps({"image": image.tolist()}).encode(), attributes={"id": name}
                )
                for name, image in zip(names, images.images, strict=False)
            ]
            sides.publish(pictures, messages)
            came = sides.read_pub_sub(seen, N_BRIDGED, 60.0)
        sides.close()

    assert sorted(json.loads(one.data)["id"] for one in came) == sorted(names)


def test_the_printed_settings_are_those_of_a_worker(secure_kafka: SecureKafka) -> None:
    """What `start_kafka.sh --secure` prints, pasted into a shell, gives the settings."""
    blocks = re.findall(r"(?:^  export \S+=.*\n)+", secure_kafka.log, re.MULTILINE)
    pasted = [variables_after(block) for block in blocks[-2:]]

    assert pasted == [secure_kafka.by_password(), secure_kafka.by_certificate()]


def variables_after(commands: str) -> Variables:
    """Run commands in a shell, and return the worker's variables that it has then."""
    done = subprocess.run(
        ["env", "-i", "PATH=/usr/bin:/bin", "bash", "-ec", f"{commands}\nenv"],
        capture_output=True,
        text=True,
        check=True,
    )
    pairs = [line.partition("=") for line in done.stdout.splitlines()]
    return {name: value for name, _, value in pairs if name.startswith(("KAFKA", "DARKROOM"))}


def test_what_it_makes_is_for_its_owner_only(secure_kafka: SecureKafka) -> None:
    """Keys, passwords and the broker's settings can be read by nobody else."""
    kept = [*secure_kafka.files.iterdir(), secure_kafka.files.parent / "server.properties"]

    assert [file.name for file in kept if file.stat().st_mode & 0o077] == []
    assert secure_kafka.files.stat().st_mode & 0o077 == 0
    assert secure_kafka.password not in secure_kafka.log
