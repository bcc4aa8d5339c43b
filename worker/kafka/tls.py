"""The TLS context of a connection, made of files whose mistakes are named one by one."""

import ssl
from pathlib import Path

from worker.errors import SettingsError

__all__ = ["load_certificate", "trusting"]

CA_FILE = "DARKROOM_KAFKA_CA_FILE"
CERT_FILE = "DARKROOM_KAFKA_CERT_FILE"
KEY_FILE = "DARKROOM_KAFKA_KEY_FILE"
KEY_PASSWORD = "DARKROOM_KAFKA_KEY_PASSWORD"  # noqa: S105 - the variable's name
PRIVATE_KEY = "PRIVATE KEY-----"
CERTIFICATE = "-----BEGIN CERTIFICATE-----"


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that checks the broker's certificate and its host name.

    Args:
        ca_file: Authorities to trust, PEM; None for those of the system.

    Raises:
        SettingsError: the file cannot be used; says why.
    """
    if ca_file is None:
        return ssl.create_default_context()
    text = read(CA_FILE, ca_file)
    if CERTIFICATE not in text:
        raise SettingsError(
            f"{CA_FILE}={ca_file}: has no certificate in PEM form in it; name the file with the "
            "certificate of the authority that signed the brokers' certificates"
        )
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise SettingsError(f"{CA_FILE}={ca_file}: not a valid certificate: {error}") from error


def load_certificate(
    context: ssl.SSLContext, cert_file: Path, key_file: Path, key_password: str | None
) -> None:
    """Load the certificate by which the client says who it is (mutual TLS).

    Raises:
        SettingsError: a file cannot be used, or the key is not the certificate's; says which.
    """
    certificate, key = read(CERT_FILE, cert_file), read(KEY_FILE, key_file)
    if CERTIFICATE not in certificate:
        is_key = PRIVATE_KEY in certificate
        found = "a private key" if is_key else "no certificate in PEM form"
        hint = f"; {CERT_FILE} and {KEY_FILE} may be swapped" if is_key else ""
        raise SettingsError(f"{CERT_FILE}={cert_file}: has {found} in it{hint}")
    if PRIVATE_KEY not in key:
        raise SettingsError(f"{KEY_FILE}={key_file}: has no private key in PEM form in it")
    try:
        context.load_cert_chain(cert_file, key_file, password=key_password or "")
    except (OSError, ValueError) as error:
        raise SettingsError(explain(error, cert_file, key_file, key)) from error


def explain(error: Exception, cert_file: Path, key_file: Path, key: str) -> str:
    """Say why a certificate and a key that can both be read do not go together."""
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return f"{KEY_FILE}={key_file}: is not the key of {CERT_FILE}={cert_file}"
    if "ENCRYPTED" in key:
        return f"{KEY_FILE}={key_file}: is encrypted; set {KEY_PASSWORD} to its password"
    return f"{CERT_FILE}={cert_file} and {KEY_FILE}={key_file} cannot be loaded: {error}"


def read(variable: str, path: Path) -> str:
    """Read a PEM file.

    Raises:
        SettingsError: it cannot be read; names the variable that names it.
    """
    try:
        return path.read_text("ascii", errors="replace")
    except OSError as error:
        raise SettingsError(
            f"{variable}={path}: cannot be read ({error.strerror}); correct the path or its "
            "permissions"
        ) from error
