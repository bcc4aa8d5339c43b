"""Files that are whole or not there, whatever dies while they are written."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["make_folder_durably", "write_durably"]


def write_durably(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file so that a reader, also after a power cut, sees the old or the whole new one.

    Missing folders are made, as durably as the file. Permissions are those of any new file. Several
    threads or processes may write the same file at once: the last to finish wins.

    Raises:
        OSError: The disk is full or the folder cannot be written; nothing is left behind.
    """
    make_folder_durably(path.parent)
    temporary = path.with_name(f".{path.name}-{os.urandom(8).hex()}")
    try:
        # "x": a name that is new for certain; two writers of one file never share a temporary one
        with temporary.open("xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def make_folder_durably(folder: Path) -> None:
    """Make a folder and those above it that are missing, so that they survive a power cut.

    Raises:
        OSError: The disk is full, a folder cannot be written, or a file has the name.
    """
    if folder.is_dir():
        return
    make_folder_durably(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make a folder's entries last: a rename or a new file is on disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
