"""What is checked before a worker starts."""

import socket
from pathlib import Path

import pytest

from worker.errors import SettingsError
from worker.runtime.preflight import check_logdir, check_port


def test_a_log_directory_is_made(tmp_path: Path) -> None:
    """It need not be there."""
    check_logdir(tmp_path / "a" / "logs")
    assert (tmp_path / "a" / "logs").is_dir()


def test_a_log_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    """The error has the setting, its value and what to do."""
    (tmp_path / "logs").touch()
    with pytest.raises(SettingsError, match=r"DARKROOM_LOGDIR: nothing can be written in '.*logs'"):
        check_logdir(tmp_path / "logs")


def test_a_port_in_use_is_named() -> None:
    """A second worker on the machine meets the first one's port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"web port {port}: .*--web-port"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
