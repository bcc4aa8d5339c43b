"""Each mistake with a certificate or key is named by the setting that holds it."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.certificates import Authority, Certificate
from worker.errors import SettingsError
from worker.kafka.tls import load_certificate, trusting

CA, CERT, KEY = (f"DARKROOM_KAFKA_{name}_FILE" for name in ("CA", "CERT", "KEY"))


def problem(cert_file: Path, key_file: Path, password: str | None = None) -> str:
    with pytest.raises(SettingsError) as raised:
        load_certificate(ssl.create_default_context(), cert_file, key_file, password)
    return str(raised.value)


def test_an_authority_that_cannot_be_read(tmp_path: Path, certificate: Certificate) -> None:
    """The file is named with the reason: it is missing, a folder, no certificate, or broken."""
    missing, broken = tmp_path / "missing.crt", tmp_path / "broken.crt"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for file, reason in {
        missing: "No such file or directory",
        tmp_path: "Is a directory",
        certificate.key_file: "no certificate in PEM form",
        broken: "not a valid certificate",
    }.items():
        with pytest.raises(SettingsError, match=reason) as raised:
            trusting(file)
        assert str(raised.value).startswith(f"{CA}={file}: ")


def test_a_file_that_is_missing(tmp_path: Path, certificate: Certificate) -> None:
    """Of certificate and key the missing one is named."""
    missing = tmp_path / "missing.pem"

    assert problem(missing, certificate.key_file).startswith(f"{CERT}={missing}: cannot be read")
    assert problem(certificate.cert_file, missing).startswith(f"{KEY}={missing}: cannot be read")


def test_certificate_and_key_swapped(certificate: Certificate) -> None:
    """The message says that the two may be swapped."""
    text = problem(certificate.key_file, certificate.cert_file)

    assert text == (
        f"{CERT}={certificate.key_file}: has a private key in it; {CERT} and {KEY} may be swapped"
    )


def test_a_key_that_is_no_key(certificate: Certificate) -> None:
    """A certificate in place of the key is named."""
    text = problem(certificate.cert_file, certificate.cert_file)

    assert text == f"{KEY}={certificate.cert_file}: has no private key in PEM form in it"


def test_the_key_of_another_certificate(authority: Authority, certificate: Certificate) -> None:
    """A key that does not belong to the certificate is named with both files."""
    other = authority.issue("other")

    assert problem(certificate.cert_file, other.key_file) == (
        f"{KEY}={other.key_file}: is not the key of {CERT}={certificate.cert_file}"
    )


def test_an_encrypted_key_needs_its_password(certificate: Certificate) -> None:
    """Without the password, or with another one, the setting to correct is named."""
    locked = certificate.locked("s3cret")

    for password in (None, "wrong"):
        text = problem(certificate.cert_file, locked, password)
        assert text.startswith(f"{KEY}={locked}: is encrypted")
        assert "DARKROOM_KAFKA_KEY_PASSWORD" in text
    load_certificate(ssl.create_default_context(), certificate.cert_file, locked, "s3cret")
