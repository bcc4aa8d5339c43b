"""Each way of not being let in ends the worker within 15 seconds, with the setting to change."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.secure.secure_kafka import SecureKafka, Variables
from tests.certificates import Authority
from worker.kafka.permissions import Permission, worker_permissions
from worker.kafka.settings import KafkaSettings
from worker.testing.clients.topics import create_topic
from worker.testing.fake_pubsub import FakePubSub
from worker.testing.programs.worker_process import WorkerProcess

AT_ONCE = 4
"""Workers that start at the same time; they mostly wait."""
PROJECT = "my-project"

MESSAGES: Mapping[str, list[str]] = {
    "wrong password": [
        "DARKROOM_KAFKA_USERNAME=darkroom",
        "DARKROOM_KAFKA_PASSWORD",
        "SCRAM-SHA-512",
    ],
    "wrong password by PLAIN": ["DARKROOM_KAFKA_USERNAME=darkroom", "by PLAIN"],
    "authority not given": ["DARKROOM_KAFKA_CA_FILE=not set", "set it to the file with that"],
    "another authority": [
        "DARKROOM_KAFKA_CA_FILE=",
        "stranger.crt",
        "comes from another authority",
    ],
    "another host name": ["KAFKA_HOST", "0.0.0.0", "name the broker as its certificate does"],
    "plaintext, where TLS is": ["speaks SASL_SSL", "set to PLAINTEXT", "KAFKA_HOST=SASL_SSL://"],
    "plaintext, where SASL is": ["speaks SASL_PLAINTEXT", "set to PLAINTEXT"],
    "SASL without TLS, where TLS is": ["speaks SASL_SSL", "set to SASL_PLAINTEXT"],
    "TLS, where none is": ["speaks SASL_PLAINTEXT", "set to SASL_SSL"],
    "a mechanism that is not offered": ["DARKROOM_KAFKA_MECHANISM=PLAIN", "offers SCRAM-SHA-256"],
    "no certificate": ["DARKROOM_KAFKA_CERT_FILE is not set", "DARKROOM_KAFKA_KEY_FILE"],
    "a certificate of another authority": [
        "DARKROOM_KAFKA_CERT_FILE=",
        "guest.crt",
        "refuses this",
    ],
    "a key that is missing": ["DARKROOM_KAFKA_KEY_FILE=", "missing.key: cannot be read (No such"],
    "certificate and key swapped": ["DARKROOM_KAFKA_CERT_FILE=", "may be swapped"],
    "nothing listens": ["KAFKA_HOST: no broker answers at '127.0.0.1:1'", "Connection refused"],
    "no permission to read images": [
        "DARKROOM_KAFKA_USERNAME=blind: Read on topic 'images-for-blind'. ",
        "--allow-principal User:blind --operation Read --topic images-for-blind",
    ],
    "no permission for the group": [
        "DARKROOM_KAFKA_USERNAME=loner: Read on group 'images-for-loner-worker'. ",
        "--operation Read --group images-for-loner-worker",
    ],
    "no permission to create topics": [
        "DARKROOM_KAFKA_USERNAME=guest: Create on cluster. ",
        "--allow-principal User:guest --operation Create --cluster",
    ],
    "no permission for the bridge's group": [
        "DARKROOM_KAFKA_USERNAME=bridge: Read on group 'images-for-bridge-worker-bridge-",
    ],
}
"""What each message has in it."""


@dataclass(frozen=True)
class Ending:
    """How a worker ended that was not let in."""

    code: int
    seconds: float
    log: str

    @property
    def message(self) -> str:
        """What it said last, which is all that it said."""
        return self.log[self.log.index("Error: ") :]


def by_password(kafka: SecureKafka, files: Path) -> dict[str, Variables]:
    """Return settings that go wrong with a user name and a password, or without."""
    user = kafka.by_password()
    without_authority = {k: v for k, v in user.items() if k != "DARKROOM_KAFKA_CA_FILE"}
    stranger = Authority(files, "stranger").cert_file
    tls, no_tls = kafka.address_of("SASL_SSL"), kafka.address_of("SASL_PLAINTEXT")
    one_mechanism = f"SASL_SSL://{kafka.address_of('ONE_MECHANISM')}"
    wrong = {"DARKROOM_KAFKA_PASSWORD": "op3n-sesame"}
    return {
        "wrong password": user | wrong,
        "wrong password by PLAIN": kafka.by_password(mechanism="PLAIN") | wrong,
        "authority not given": without_authority,
        "another authority": user | {"DARKROOM_KAFKA_CA_FILE": str(stranger)},
        "another host name": user
        | {"KAFKA_HOST": f"SASL_SSL://{tls}".replace("127.0.0.1", "0.0.0.0")},
        "plaintext, where TLS is": {"KAFKA_HOST": tls},
        "plaintext, where SASL is": {"KAFKA_HOST": no_tls},
        "SASL without TLS, where TLS is": without_authority
        | {"KAFKA_HOST": f"SASL_PLAINTEXT://{tls}"},
        "TLS, where none is": user | {"KAFKA_HOST": f"SASL_SSL://{no_tls}"},
        "a mechanism that is not offered": kafka.by_password(mechanism="PLAIN")
        | {"KAFKA_HOST": one_mechanism},
    }


def by_certificate(kafka: SecureKafka, files: Path) -> dict[str, Variables]:
    """Return settings that go wrong with a certificate, or without."""
    user = kafka.by_certificate()
    cert, key = "DARKROOM_KAFKA_CERT_FILE", "DARKROOM_KAFKA_KEY_FILE"
    guest = Authority(files, "elsewhere").issue("guest")
    return {
        "no certificate": {name: user[name] for name in ("KAFKA_HOST", "DARKROOM_KAFKA_CA_FILE")},
        "a certificate of another authority": user
        | {cert: str(guest.cert_file), key: str(guest.key_file)},
        "a key that is missing": user | {key: str(files / "missing.key")},
        "certificate and key swapped": user | {cert: user[key], key: user[cert]},
    }


def without_permission(kafka: SecureKafka, pub_sub: FakePubSub) -> dict[str, Variables]:
    """Return the settings of users who lack one permission each."""

    def user(name: str, *, lacks: str = "") -> Variables:
        variables = {"KAFKA_TOPIC": f"images-for-{name}"}
        settings = KafkaSettings.model_validate(variables)
        permissions = worker_permissions(settings.topics, settings.group)
        for topic in settings.topics.names if lacks else []:
            create_topic(kafka.connection, topic)
        allowed = [one for one in permissions if lacks not in str(one) or not lacks]
        return kafka.add_user(name, allowed) | variables

    bridged = {
        "PUBSUB_EMULATOR_HOST": pub_sub.host,
        "PUB_SUB_PROJECT": PROJECT,
        "PUB_SUB_TOPIC": "seen",
    }
    pub_sub.create_topic(f"projects/{PROJECT}/topics/seen")
    reads = Permission("topic", "images-for-bridge-predictions", "Read")
    bridge = user("bridge", lacks="nothing")
    kafka.allow("bridge", [reads])
    return {
        "no permission to read images": user("blind", lacks="Read on topic 'images-for-blind'"),
        "no permission for the group": user("loner", lacks="Read on group"),
        "no permission to create topics": user("guest"),
        "no permission for the bridge's group": bridge | bridged,
    }


def ending_of(settings: Variables, folder: Path) -> Ending:
    """Start a worker, and see how it ends."""
    folder.mkdir()
    begin = time.monotonic()
    with WorkerProcess(folder, kafka=settings["KAFKA_HOST"], settings=settings) as worker:
        code = worker.wait(60.0)
        return Ending(code, time.monotonic() - begin, worker.log)


@pytest.fixture(scope="module")
def endings(
    secure_kafka: SecureKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Ending]]:
    """How a worker ends, in each of the cases; some run at the same time."""
    files, folder = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("kept-out")
    with FakePubSub() as pub_sub, ThreadPoolExecutor(AT_ONCE) as threads:
        cases = {
            **by_password(secure_kafka, files),
            **by_certificate(secure_kafka, files),
            **without_permission(secure_kafka, pub_sub),
            "nothing listens": secure_kafka.by_password()
            | {"KAFKA_HOST": "SASL_SSL://127.0.0.1:1"},
        }
        futures = {
            name: threads.submit(ending_of, settings, folder / name.replace(" ", "-"))
            for name, settings in cases.items()
        }
        yield {name: future.result() for name, future in futures.items()}


@pytest.mark.parametrize("case", MESSAGES)
def test_one_message_says_what_to_change(case: str, endings: dict[str, Ending]) -> None:
    """The worker ends with 1 and one message, with the setting, its value and the remedy."""
    ending = endings[case]

    assert ending.code == 1, ending.log
    for part in MESSAGES[case]:
        assert part in ending.message
    assert ending.log.count("Error: ") == 1
    assert "Traceback" not in ending.log


@pytest.mark.parametrize("case", MESSAGES)
def test_it_takes_less_than_15_seconds(case: str, endings: dict[str, Ending]) -> None:
    """From the start of the process to its end."""
    assert endings[case].seconds < 15


def test_no_password_is_written(endings: dict[str, Ending], secure_kafka: SecureKafka) -> None:
    """Neither the right password nor a wrong one is in what the workers wrote."""
    for ending in endings.values():
        assert secure_kafka.password not in ending.log
        assert "op3n-sesame" not in ending.log
