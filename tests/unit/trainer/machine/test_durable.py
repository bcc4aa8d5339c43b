"""Files that are whole or not there."""

import os
import threading
from pathlib import Path

import pytest

from trainer import write_durably


def test_many_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """Threads that write one file at once all succeed, and one of them has written all of it."""
    path = tmp_path / "folder" / "job.json"
    contents = [bytes([number]) * 200_000 for number in range(8)]
    start = threading.Barrier(len(contents))
    errors: list[Exception] = []

    def write(content: bytes) -> None:
        start.wait()
        try:
            for _ in range(5):
                write_durably(path, content)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert path.read_bytes() in contents
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk is full the old content stays, and nothing else is left behind."""
    path = tmp_path / "job.json"
    write_durably(path, b"old")

    def refuse(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    """A written file has the permissions of any other new file of the process."""
    write_durably(tmp_path / "durable", b"")
    (tmp_path / "plain").write_bytes(b"")
    modes = [(tmp_path / name).stat().st_mode for name in ("durable", "plain")]
    assert modes[0] == modes[1]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    """All folders above the file are made, each entered durably in the one above it."""
    path = tmp_path / "a" / "b" / "file"
    write_durably(path, b"part one, ", memoryview(b"part two"))
    assert path.read_bytes() == b"part one, part two"
