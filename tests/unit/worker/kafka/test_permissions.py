"""Missing permissions are one message that an administrator can paste."""

from __future__ import annotations

import shlex
from pathlib import Path

from pydantic import SecretStr

from worker.kafka.connection import Connection
from worker.kafka.permissions import CLUSTER, Permission, refusal, worker_permissions
from worker.kafka.settings import KafkaSettings

USER = Connection("kafka:9092", "SASL_SSL", "PLAIN", "a camera", SecretStr("s3cret"))
READ = Permission("topic", "images", "Read")
WRITE = Permission("topic", "images", "Write")
GROUP = Permission("group", "images-worker", "Read")
CREATE = Permission("cluster", CLUSTER, "Create")


def commands(connection: Connection, *missing: Permission) -> list[str]:
    _, *lines = str(refusal(connection, missing)).splitlines()
    return [line.strip() for line in lines]


def test_everything_that_is_missing_is_named_at_once() -> None:
    """The sentence has the user and every operation with its resource, but no secret."""
    sentence, *_ = str(refusal(USER, [READ, GROUP, CREATE])).splitlines()

    assert "DARKROOM_KAFKA_USERNAME=a camera" in sentence
    assert "Create on cluster, Read on group 'images-worker', Read on topic 'images'" in sentence
    assert "s3cret" not in str(refusal(USER, [READ]))


def test_a_resource_is_granted_by_one_command() -> None:
    """Two operations on a topic are one command; a shell reads its words as they are meant."""
    (command,) = commands(USER, WRITE, READ)

    assert shlex.split(command) == [
        *("kafka-acls.sh", "--bootstrap-server", "kafka:9092"),
        *("--command-config", "admin.properties", "--add"),
        *("--allow-principal", "User:a camera"),
        *("--operation", "Read", "--operation", "Write", "--topic", "images"),
    ]


def test_the_cluster_has_no_name() -> None:
    """Creating topics is granted on the cluster."""
    (command,) = commands(USER, CREATE)

    assert command.endswith("--operation Create --cluster")


def test_the_owner_of_a_certificate_is_its_subject() -> None:
    """With mutual TLS the command reads the principal from the certificate."""
    connection = Connection("kafka:9092", "SSL", cert_file=Path("my camera.crt"))
    (command,) = commands(connection, READ)

    assert "-in 'my camera.crt'" in command
    assert '--allow-principal "User:$(openssl x509' in command


def test_a_worker_reads_two_topics_and_writes_four() -> None:
    """What a worker has to be allowed to do follows from the names of its topics and its group."""
    settings = KafkaSettings.model_validate({"KAFKA_TOPIC": "eyes"})
    found = [str(one) for one in worker_permissions(settings.topics, settings.group)]

    assert found == [
        "Read on topic 'eyes'",
        "Read on topic 'eyes-control'",
        "Write on topic 'eyes-control'",
        "Write on topic 'eyes-predictions'",
        "Write on topic 'eyes-events'",
        "Write on topic 'eyes-dead-letters'",
        "Read on group 'eyes-worker'",
    ]
