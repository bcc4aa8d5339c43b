"""Why a cluster cannot be reached: one sentence with the setting, its value and the remedy."""

import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from confluent_kafka import KafkaError

from worker.kafka.connection import Connection
from worker.kafka.listener import Listener, certificate_problem, look_at

__all__ = ["find_problem", "last_reason"]

EXPIRED, NOT_YET_VALID = 10, 9
WRONG_HOST, WRONG_IP = 62, 64
"""X509_V_ERR_* of OpenSSL."""


def find_problem(
    connection: Connection, errors: Sequence[KafkaError], *, is_final: bool
) -> str | None:
    """Return what keeps the worker out; None where the cluster may only be late.

    Args:
        connection: How the cluster was to be reached.
        errors: What confluent-kafka's client has reported.
        is_final: Whether there is no time left; else a broker that does not answer may come up
            and let the worker in where another one does not.
    """
    addresses = connection.hosts.split(",")
    with ThreadPoolExecutor(len(addresses)) as threads:  # one that is gone takes seconds
        found = list(threads.map(partial(problem_at, connection), addresses))
    problems = [problem for problem in found if problem]
    if problems and (is_final or len(problems) == len(found)):
        return problems[0]
    refusal = KafkaError._AUTHENTICATION  # noqa: SLF001 - the public code
    return wrong_password(connection) if refusal in {error.code() for error in errors} else None


def last_reason(errors: Sequence[KafkaError]) -> str:
    """Return the last error that says more than that no broker is there."""
    vague = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001 - the public code
    telling = [error.str() for error in errors if error.code() != vague]
    return telling[-1] if telling else "no answer"


def problem_at(connection: Connection, address: str) -> str | None:
    """Return what is wrong between a listener and the settings, None where nothing is seen."""
    try:
        listener = look_at(address, connection)
        if listener.has_tls and connection.has_tls:
            untrusted = certificate_problem(address, connection)
            if untrusted is not None:
                return distrust(address, connection, untrusted)
    except OSError:  # nobody answers, which waiting may change
        return None
    return contradiction(address, connection, listener)


def contradiction(address: str, connection: Connection, listener: Listener) -> str | None:
    """Return where the settings are not what the listener expects."""
    if listener.has_tls and listener.mechanisms is None:
        return certificate_refused(address, connection)
    expected = listener.protocol
    offered = ", ".join(listener.mechanisms or ())
    if expected is not None and expected != connection.protocol:
        mechanisms = f" with one of {offered}" if offered else ""
        return (
            f"KAFKA_HOST: the listener at {address} speaks {expected}{mechanisms}, and the worker "
            f"is set to {connection.protocol}; set KAFKA_HOST={expected}://{address}"
            f"{companions(connection, listener)}, or name another port"
        )
    if listener.mechanisms and connection.mechanism not in listener.mechanisms:
        return (
            f"DARKROOM_KAFKA_MECHANISM={connection.mechanism}: the listener at {address} offers "
            f"{offered}; set it to one of these"
        )
    return None


def companions(connection: Connection, listener: Listener) -> str:
    """Return which other settings have to come or go with another protocol."""
    credentials = ["USERNAME", "PASSWORD", "MECHANISM"]
    files = ["CA_FILE", "CERT_FILE", "KEY_FILE", "KEY_PASSWORD"]
    unset = [] if listener.mechanisms else credentials
    unset += [] if listener.has_tls else files
    given = [name for name in unset if getattr(connection, name.lower()) is not None]
    missing = listener.mechanisms and not connection.has_sasl
    return ", ".join(
        [
            "",
            *(f"set DARKROOM_KAFKA_{name}" for name in credentials[:2] if missing),
            *(f"unset DARKROOM_KAFKA_{name}" for name in given),
        ]
    )


def certificate_refused(address: str, connection: Connection) -> str:
    """Return what to do where a listener ends the connection for want of a certificate."""
    if connection.cert_file is None:
        return (
            f"DARKROOM_KAFKA_CERT_FILE is not set, and the listener at {address} lets in only "
            "clients with a certificate; set it and DARKROOM_KAFKA_KEY_FILE, or name another port"
        )
    return (
        f"DARKROOM_KAFKA_CERT_FILE={connection.cert_file}: the listener at {address} refuses this "
        "certificate; name one that has not expired, from an authority that the broker trusts"
    )


def distrust(address: str, connection: Connection, problem: ssl.SSLCertVerificationError) -> str:
    """Return what to do where the broker's certificate cannot be trusted."""
    message = problem.verify_message.rstrip(".")
    if problem.verify_code in (WRONG_HOST, WRONG_IP):
        return (
            f"KAFKA_HOST: the certificate of the broker at {address} is for another host "
            f"({message}); name the broker as its certificate does, or have the name added to it"
        )
    if problem.verify_code in (EXPIRED, NOT_YET_VALID):
        return (
            f"KAFKA_HOST: the certificate of the broker at {address} cannot be used now "
            f"({message}); correct this machine's clock, or have the certificate renewed"
        )
    trusted = connection.ca_file or "not set, so that the system's authorities are trusted"
    return (
        f"DARKROOM_KAFKA_CA_FILE={trusted}: the certificate of the broker at {address} comes from "
        f"another authority ({message}); set it to the file with that authority's certificate"
    )


def wrong_password(connection: Connection) -> str:
    """Return what to do where the broker lets nobody in by this name and password."""
    return (
        f"DARKROOM_KAFKA_USERNAME={connection.username}: Kafka at {connection.hosts} refuses this "
        f"user with DARKROOM_KAFKA_PASSWORD by {connection.mechanism}; correct them, or have the "
        "user made for this mechanism (kafka-configs.sh --entity-type users for SCRAM)"
    )
