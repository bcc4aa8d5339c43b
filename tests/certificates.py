"""Certificates for the tests, made by openssl as an administrator makes them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Authority", "Certificate"]

NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, both PEM files."""

    cert_file: Path
    key_file: Path

    def locked(self, password: str) -> Path:
        """Return a file with the key encrypted by a password."""
        file = self.key_file.with_suffix(".locked.key")
        openssl("ec", "-in", self.key_file, "-aes256", "-passout", f"pass:{password}", "-out", file)
        return file


class Authority:
    """An authority of its own, in a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self.cert_file, self._key_file = folder / f"{name}.crt", folder / f"{name}.key"
        files = ["-keyout", self._key_file, "-out", self.cert_file]
        openssl("req", "-x509", *NEW_KEY, "-subj", f"/CN={name}", *files)

    def issue(self, name: str) -> Certificate:
        """Return a certificate with this common name, signed by the authority."""
        made = Certificate(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        request = self._folder / f"{name}.csr"
        openssl("req", *NEW_KEY, "-subj", f"/CN={name}", "-keyout", made.key_file, "-out", request)
        signer = ["-CA", self.cert_file, "-CAkey", self._key_file, "-CAcreateserial"]
        openssl("x509", "-req", "-in", request, *signer, "-out", made.cert_file)
        return made


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
