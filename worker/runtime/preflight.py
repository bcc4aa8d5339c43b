"""What a worker needs around it, checked at its start so that one message says what lacks."""

import socket
import tempfile
from pathlib import Path

from worker.errors import SettingsError

__all__ = ["check_logdir", "check_port"]


def check_logdir(logdir: Path) -> None:
    """Make the log directory, and check that files can be written there.

    Raises:
        SettingsError: they cannot, and why.
    """
    try:
        logdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=logdir):
            pass
    except OSError as error:
        raise SettingsError(
            f"DARKROOM_LOGDIR: nothing can be written in {str(logdir)!r} ({error.strerror}); "
            "choose another folder or correct its permissions"
        ) from error


def check_port(host: str, port: int) -> None:
    """Check that the web server can listen.

    Raises:
        SettingsError: it cannot, and why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"web port {port}: cannot be listened on at {host!r} ({error.strerror}); each "
                "worker of a machine needs its own, choose one with --web-port"
            ) from error
