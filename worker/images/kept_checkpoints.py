"""Copies of what is deployed and of what was before, so that its job may write over the original.

They are in `deployed/` in the log directory, each under its sha256.
"""

import hashlib
from collections.abc import Collection
from pathlib import Path

import trainer
from worker.errors import BadCommand

__all__ = ["KeptCheckpoints"]

SHA256_LENGTH = 64


class KeptCheckpoints:
    """The copies in a log directory."""

    def __init__(self, logdir: Path) -> None:
        self._folder = logdir / "deployed"

    def find(self, sha256: str, original: Path) -> Path:
        """Return the copy, or the original where there is none."""
        copy = self._copy(sha256)
        return copy if copy.exists() else original

    def keep(self, original: Path, sha256: str) -> None:
        """Copy a checkpoint.

        Raises:
            BadCommand: it is no longer what it was, or cannot be copied.
        """
        if self._copy(sha256).exists():
            return
        try:
            content = original.read_bytes()
            if hashlib.sha256(content).hexdigest() != sha256:
                raise BadCommand(
                    f"{original}: was written over while it was being deployed; "
                    "send the command again"
                )
            trainer.write_durably(self._copy(sha256), content)
        except OSError as error:
            raise BadCommand(
                f"{original}: cannot be copied to {self._folder}: {error.strerror}; "
                "make room, or mend the folder's rights, and send the command again"
            ) from error

    def drop_all_but(self, sha256s: Collection[str]) -> None:
        """Remove the other copies."""
        for path in self._folder.glob("*.pt"):
            if len(path.stem) == SHA256_LENGTH and path.stem not in sha256s:
                path.unlink(missing_ok=True)

    def _copy(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.pt"
