"""The text of a file that another process appends to."""

from __future__ import annotations

import codecs
from pathlib import Path

__all__ = ["GrowingLog"]


class GrowingLog:
    """Everything in a file from a position on; each byte is read once, however often one looks."""

    def __init__(self, file: Path, position: int = 0) -> None:
        self._file = file
        self._position = position
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""

    @property
    def text(self) -> str:
        """What the file holds now; empty as long as there is no file."""
        if self._file.exists():
            with self._file.open("rb") as file:
                file.seek(self._position)
                news = file.read()
            self._position += len(news)
            self._text += self._decoder.decode(news)
        return self._text
