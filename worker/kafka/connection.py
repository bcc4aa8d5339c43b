"""How to reach a Kafka cluster: hosts, TLS and SASL, said in each client's own terms.

Every client that the worker uses is configured from here, so that none can be reached in plaintext
where the others are encrypted.
"""

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import faust
from pydantic import SecretStr
from yarl import URL

from worker.kafka.tls import load_certificate, trusting

__all__ = ["EMBEDDED", "Connection", "Mechanism", "Protocol"]

EMBEDDED = "embedded"
"""The hosts of a cluster that is not running yet: the embedded one of the worker."""

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


def shows_no_login(record: logging.LogRecord) -> bool:
    """Whether a log record is none of those of a login, which have the password in them."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    return not any(type(one).__name__.startswith("SaslAuthenticate") for one in arguments)


logging.getLogger("aiokafka.conn").addFilter(shows_no_login)  # it logs requests at level DEBUG


@dataclass(frozen=True)
class Connection:
    """A cluster's hosts and what it takes to be let in.

    Attributes:
        hosts: `host:port`, comma-separated.
        protocol: Kafka's name for the combination of TLS and SASL.
        mechanism: SASL mechanism, for the protocols with SASL.
        username: SASL user.
        password: SASL password; never shown.
        ca_file: authorities to trust, PEM; the system's when not given.
        cert_file: the client's certificate, PEM, for mutual TLS.
        key_file: the private key of the certificate, PEM.
        key_password: password of the private key; never shown.
    """

    hosts: str
    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism | None = None
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password: SecretStr | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether the cluster is the embedded one, which has no address before it is started."""
        return self.hosts == EMBEDDED

    @property
    def urls(self) -> list[URL]:
        """The hosts as Faust's transport takes them."""
        return [URL(f"kafka://{host}") for host in self.hosts.split(",")]

    @property
    def has_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.protocol.endswith("SSL")

    @property
    def has_sasl(self) -> bool:
        """Whether the client says who it is by SASL."""
        return self.protocol.startswith("SASL")

    def for_confluent(self) -> dict[str, Any]:
        """Return the settings of confluent-kafka's clients (librdkafka's CONFIGURATION.md)."""
        settings = {
            "bootstrap.servers": self.hosts,
            "security.protocol": self.protocol,
            "sasl.mechanism": self.mechanism if self.has_sasl else None,
            "sasl.username": self.username,
            "sasl.password": revealed(self.password),
            "ssl.ca.location": text_of(self.ca_file),
            "ssl.certificate.location": text_of(self.cert_file),
            "ssl.key.location": text_of(self.key_file),
            "ssl.key.password": revealed(self.key_password),
        }
        return {name: value for name, value in settings.items() if value is not None}

    def for_aiokafka(self) -> dict[str, Any]:
        """Return the arguments of aiokafka's clients.

        Raises:
            SettingsError: a certificate or key cannot be used.
        """
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.hosts,
            "security_protocol": self.protocol,
            "ssl_context": self._ssl_context,
        }
        if self.has_sasl:
            arguments |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": revealed(self.password),
            }
        return arguments

    def for_faust(self) -> Mapping[str, Any]:
        """Return the options of a Faust app.

        Faust speaks plaintext when it is given SASL credentials without a TLS context, so that the
        context is always there where the protocol has TLS.

        Raises:
            SettingsError: a certificate or key cannot be used.
        """
        credentials: Any = None
        if self.has_sasl:
            credentials = faust.SASLCredentials(
                username=self.username,
                password=revealed(self.password),
                mechanism=self.mechanism,
                ssl_context=self._ssl_context,
            )
        elif self.has_tls:
            credentials = faust.SSLCredentials(self._ssl_context)
        return {"broker": self.urls, "broker_credentials": credentials}

    @cached_property
    def _ssl_context(self) -> ssl.SSLContext | None:
        return self.new_ssl_context() if self.has_tls else None

    def new_ssl_context(self) -> ssl.SSLContext:
        """Return a context that trusts the authorities and shows the client's certificate.

        Raises:
            SettingsError: a certificate or key cannot be used.
        """
        context = trusting(self.ca_file)
        if self.cert_file is not None and self.key_file is not None:
            password = revealed(self.key_password)
            load_certificate(context, self.cert_file, self.key_file, password)
        return context


def revealed(secret: SecretStr | None) -> str | None:
    """Return a secret's text, for a client's settings alone."""
    return secret.get_secret_value() if secret is not None else None


def text_of(path: Path | None) -> str | None:
    """Return a path as text."""
    return str(path) if path is not None else None
