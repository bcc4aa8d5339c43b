"""Which settings of a secured Kafka go together."""

import pytest
from pydantic import SecretStr, ValidationError

from worker.kafka.settings import KafkaSettings

USER = {"DARKROOM_KAFKA_USERNAME": "worker", "DARKROOM_KAFKA_PASSWORD": "s3cret"}
CERTIFICATE = {"DARKROOM_KAFKA_CERT_FILE": "worker.pem", "DARKROOM_KAFKA_KEY_FILE": "worker.key"}


@pytest.mark.parametrize(
    ("values", "protocol", "mechanism"),
    [
        ({}, "PLAINTEXT", None),
        (USER, "SASL_SSL", "SCRAM-SHA-512"),
        ({"DARKROOM_KAFKA_CA_FILE": "ca.pem"}, "SSL", None),
        (CERTIFICATE, "SSL", None),
        (USER | {"DARKROOM_KAFKA_MECHANISM": "PLAIN"}, "SASL_SSL", "PLAIN"),
        (USER | {"DARKROOM_KAFKA_PROTOCOL": "SASL_PLAINTEXT"}, "SASL_PLAINTEXT", "SCRAM-SHA-512"),
        (USER | {"KAFKA_HOST": "SASL_PLAINTEXT://a"}, "SASL_PLAINTEXT", "SCRAM-SHA-512"),
        (USER | CERTIFICATE, "SASL_SSL", "SCRAM-SHA-512"),
    ],
)
def test_the_protocol_follows_from_the_other_settings(
    values: dict[str, str], protocol: str, mechanism: str | None
) -> None:
    """A user or a certificate is never sent over a connection that is not encrypted unasked."""
    connection = KafkaSettings.model_validate(values).connection
    assert (connection.protocol, connection.mechanism) == (protocol, mechanism)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"DARKROOM_KAFKA_USERNAME": "worker"}, "SASL_SSL needs DARKROOM_KAFKA_USERNAME and"),
        ({"DARKROOM_KAFKA_PASSWORD": "s3cret"}, "no use with PLAINTEXT"),
        ({"KAFKA_HOST": "SASL_SSL://a:1"}, "SASL_SSL needs DARKROOM_KAFKA_USERNAME and"),
        (USER | {"KAFKA_HOST": "SSL://a:1"}, "no use with SSL"),
        ({"KAFKA_HOST": "PLAINTEXT://a"} | CERTIFICATE, "no use with PLAINTEXT"),
        ({"DARKROOM_KAFKA_CERT_FILE": "worker.pem"}, "CERT_FILE and DARKROOM_KAFKA_KEY_FILE go"),
        (
            {"KAFKA_HOST": "SSL://a", "DARKROOM_KAFKA_PROTOCOL": "PLAINTEXT"},
            "KAFKA_HOST says SSL and DARKROOM_KAFKA_PROTOCOL PLAINTEXT",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_named(
    values: dict[str, str], problem: str
) -> None:
    """The error names the variables and what to do."""
    with pytest.raises(ValidationError, match=problem) as raised:
        KafkaSettings.model_validate(values)
    assert all("s3cret" not in detail["msg"] for detail in raised.value.errors())


def test_a_secret_is_not_shown() -> None:
    """Settings and connection show stars where the password is."""
    settings = KafkaSettings.model_validate(USER)
    assert "s3cret" not in f"{settings!r} {settings.connection!r}"
    assert settings.password == SecretStr("s3cret")
