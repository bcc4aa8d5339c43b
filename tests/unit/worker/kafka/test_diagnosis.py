"""What a listener expects, beside what the worker is set to, gives the setting to change."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from pydantic import SecretStr

from worker.kafka.connection import Connection
from worker.kafka.diagnosis import contradiction
from worker.kafka.listener import Listener, mechanisms_of

HOST = "kafka:9092"
SASL = Listener(has_tls=True, mechanisms=("PLAIN", "SCRAM-SHA-256"))
USER = Connection(HOST, "SASL_SSL", "SCRAM-SHA-256", "camera", SecretStr("s3cret"))
CERTIFICATE = Connection(HOST, "SSL", cert_file=Path("camera.crt"), key_file=Path("camera.key"))


@pytest.mark.parametrize(
    ("connection", "listener", "remedy"),
    [
        (
            Connection(HOST),
            SASL,
            (
                "speaks SASL_SSL with one of PLAIN, SCRAM-SHA-256, and the worker is set to "
                f"PLAINTEXT; set KAFKA_HOST=SASL_SSL://{HOST}, set DARKROOM_KAFKA_USERNAME, set "
                "DARKROOM_KAFKA_PASSWORD, or name another port"
            ),
        ),
        (
            USER,
            Listener(has_tls=False, mechanisms=()),
            (
                f"set KAFKA_HOST=PLAINTEXT://{HOST}, unset DARKROOM_KAFKA_USERNAME, unset "
                "DARKROOM_KAFKA_PASSWORD, unset DARKROOM_KAFKA_MECHANISM, or name another port"
            ),
        ),
        (USER, Listener(has_tls=False, mechanisms=("PLAIN",)), "set KAFKA_HOST=SASL_PLAINTEXT://"),
        (CERTIFICATE, SASL, f"set KAFKA_HOST=SASL_SSL://{HOST}, set DARKROOM_KAFKA_USERNAME"),
        (
            USER,
            Listener(has_tls=True, mechanisms=("PLAIN",)),
            f"DARKROOM_KAFKA_MECHANISM=SCRAM-SHA-256: the listener at {HOST} offers PLAIN; set it",
        ),
        (
            Connection(HOST, "SSL"),
            Listener(has_tls=True, mechanisms=None),
            "DARKROOM_KAFKA_CERT_FILE is not set",
        ),
        (
            CERTIFICATE,
            Listener(has_tls=True, mechanisms=None),
            "DARKROOM_KAFKA_CERT_FILE=camera.crt: the listener at kafka:9092 refuses this",
        ),
    ],
)
def test_the_setting_to_change_is_named(
    connection: Connection, listener: Listener, remedy: str
) -> None:
    """The message says what the listener is, what is set, and what to set instead."""
    problem = contradiction(HOST, connection, listener) or ""

    assert remedy in problem
    assert "s3cret" not in problem


@pytest.mark.parametrize(
    ("connection", "listener"),
    [
        (Connection(HOST), Listener(has_tls=False, mechanisms=())),
        (Connection(HOST), Listener(has_tls=False, mechanisms=None)),  # it says too little
        (USER, SASL),
        (CERTIFICATE, Listener(has_tls=True, mechanisms=())),
    ],
)
def test_settings_that_fit_are_no_problem(connection: Connection, listener: Listener) -> None:
    """Where the listener expects what is set, or does not tell, nothing is claimed."""
    assert contradiction(HOST, connection, listener) is None


def test_the_answer_to_a_handshake_is_read() -> None:
    """Mechanisms come with code 0 and with code 33 (not the one asked for); 34 is without SASL."""
    names = b"".join(struct.pack(">h", len(name)) + name for name in (b"PLAIN", b"SCRAM-SHA-512"))

    for code in (0, 33):
        answer = struct.pack(">ihi", 0, code, 2) + names
        assert mechanisms_of(answer) == ("PLAIN", "SCRAM-SHA-512")
    assert mechanisms_of(struct.pack(">ihi", 0, 34, 0)) == ()
    assert mechanisms_of(struct.pack(">ihi", 0, 35, 0)) is None
