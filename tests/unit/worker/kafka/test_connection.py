"""One connection says the same in the terms of every client."""

from __future__ import annotations

import logging
import re
import ssl
from typing import get_args

import faust
import pytest
from aiokafka.protocol.admin import SaslAuthenticateRequest, SaslHandShakeRequest
from confluent_kafka import Producer
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from pydantic import SecretStr

from tests.certificates import Authority, Certificate
from tests.project import ROOT
from worker.kafka.connection import Connection, Mechanism, Protocol

PASSWORD = "open sesame"
PROTOCOLS: list[Protocol] = list(get_args(Protocol))
MECHANISMS: list[Mechanism] = list(get_args(Mechanism))


@pytest.fixture(params=PROTOCOLS)
def connection(
    request: pytest.FixtureRequest, authority: Authority, certificate: Certificate
) -> Connection:
    """A connection with everything that its protocol can have."""
    protocol: Protocol = request.param
    user = {"mechanism": "SCRAM-SHA-256", "username": "camera", "password": SecretStr(PASSWORD)}
    files = {
        "ca_file": authority.cert_file,
        "cert_file": certificate.cert_file,
        "key_file": certificate.key_file,
    }
    return Connection(
        "one:9092,two:9093",
        protocol,
        **(user if protocol.startswith("SASL") else {}),  # type: ignore[arg-type]
        **(files if protocol.endswith("SSL") else {}),  # type: ignore[arg-type]
    )


def test_every_client_speaks_the_protocol_that_is_set(connection: Connection) -> None:
    """Librdkafka, aiokafka and Faust get one protocol; none of them falls back to plaintext."""
    faust_options = connection.for_faust()
    driver = credentials_to_aiokafka_auth(faust_options["broker_credentials"], None)

    assert connection.for_confluent()["security.protocol"] == connection.protocol
    assert connection.for_aiokafka()["security_protocol"] == connection.protocol
    assert driver["security_protocol"] == connection.protocol


def test_every_client_gets_the_hosts(connection: Connection) -> None:
    """All hosts are handed on, in order."""
    assert connection.for_confluent()["bootstrap.servers"] == "one:9092,two:9093"
    assert connection.for_aiokafka()["bootstrap_servers"] == "one:9092,two:9093"
    assert [str(url) for url in connection.for_faust()["broker"]] == [
        "kafka://one:9092",
        "kafka://two:9093",
    ]


@pytest.mark.parametrize("connection", ["SASL_SSL", "SASL_PLAINTEXT"], indirect=True)
def test_every_client_gets_the_user(connection: Connection) -> None:
    """Mechanism, user name and password are the same in all three dialects."""
    confluent, aiokafka = connection.for_confluent(), connection.for_aiokafka()
    driver = credentials_to_aiokafka_auth(connection.for_faust()["broker_credentials"], None)
    expected = ["SCRAM-SHA-256", "camera", PASSWORD]

    assert [confluent[f"sasl.{name}"] for name in ("mechanism", "username", "password")] == expected
    names = ("sasl_mechanism", "sasl_plain_username", "sasl_plain_password")
    assert [aiokafka[name] for name in names] == expected
    assert [driver[name] for name in names] == expected


@pytest.mark.parametrize("connection", ["SASL_SSL", "SSL"], indirect=True)
def test_every_client_checks_who_the_broker_is(connection: Connection) -> None:
    """With TLS the broker's certificate and host name are verified, by every client."""
    driver = credentials_to_aiokafka_auth(connection.for_faust()["broker_credentials"], None)
    for context in (connection.for_aiokafka()["ssl_context"], driver["ssl_context"]):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert [dict(*one["subject"]) for one in context.get_ca_certs()] == [
            {"commonName": "authority"}
        ]
    confluent = connection.for_confluent()
    assert confluent["ssl.ca.location"] == str(connection.ca_file)
    assert not {"enable.ssl.certificate.verification"} & set(confluent)  # both on by default
    assert not {"ssl.endpoint.identification.algorithm"} & set(confluent)


def test_faust_without_a_context_would_speak_plaintext() -> None:
    """The trap this project has one translation for: Faust sends the password unencrypted then."""
    credentials = faust.SASLCredentials(username="camera", password=PASSWORD)

    driver = credentials_to_aiokafka_auth(credentials, None)

    assert driver["security_protocol"] == "SASL_PLAINTEXT"


def test_librdkafka_knows_every_setting(connection: Connection) -> None:
    """A producer can be made of the settings."""
    Producer({**connection.for_confluent(), "log_level": 0})


def test_the_system_trusts_where_no_authority_is_named() -> None:
    """Without a file the authorities of the system are trusted, and the broker is still checked."""
    context = Connection("one:9092", "SSL").for_aiokafka()["ssl_context"]

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert "ssl.ca.location" not in Connection("one:9092", "SSL").for_confluent()


def test_secrets_are_not_in_its_repr(certificate: Certificate) -> None:
    """Whoever prints a connection, or the credentials of Faust, shows no password."""
    secret = SecretStr(PASSWORD)
    connection = Connection(
        "one:9092", "SASL_SSL", "PLAIN", "camera", secret, key_password=SecretStr(PASSWORD)
    )

    shown = f"{connection!r} {connection} {connection.for_faust()!r}"

    assert "camera" in shown
    assert PASSWORD not in shown


def test_no_login_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What aiokafka logs of its requests at level DEBUG is kept out where it has a password."""
    log = logging.getLogger("aiokafka.conn")
    caplog.set_level(logging.DEBUG)
    for request in (SaslHandShakeRequest("PLAIN"), SaslAuthenticateRequest(PASSWORD.encode())):
        log.debug(
            "Request to %s:%d %d: %s", "one", 9092, 1, request.prepare({17: (1, 1), 36: (0, 1)})
        )

    assert "SaslHandShakeRequest" in caplog.text
    assert PASSWORD not in caplog.text


def test_nobody_else_knows_how_to_reach_kafka() -> None:
    """The clients' settings for hosts, TLS and SASL are named in one file of the worker."""
    names = re.compile(r'"(bootstrap[._]servers|security[._]protocol|sasl[._]\w+|ssl[._]\w+)"')
    files = (ROOT / "worker").rglob("*.py")

    found = {file.name for file in files if names.search(file.read_text("utf-8"))}

    assert found == {"connection.py"}
