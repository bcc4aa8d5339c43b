"""The README and the pages of docs/: their text, and the fenced blocks that tests run or parse."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.project import ROOT

__all__ = ["README", "Block", "Document", "all_documents", "json_objects"]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and its text."""

    language: str
    text: str


@dataclass(frozen=True)
class Document:
    """A Markdown file of the project; the name is relative to the project's folder."""

    name: str

    @property
    def path(self) -> Path:
        return ROOT / self.name

    @property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @property
    def blocks(self) -> list[Block]:
        """All fenced blocks in their order."""
        return [Block(*found) for found in FENCE.findall(self.text)]

    def block(self, language: str, part: str) -> str:
        """Return the text of the one block in a language that has this part."""
        (found,) = [
            each.text for each in self.blocks if each.language == language and part in each.text
        ]
        return found

    def json_objects(self) -> list[dict[str, Any]]:
        """Return the objects in the JSON blocks; a block may hold several, one after the other."""
        return [
            found
            for each in self.blocks
            if each.language == "json"
            for found in json_objects(each.text)
        ]


README = Document("README.md")


def all_documents() -> list[Document]:
    """Return the project's own Markdown files, in order of their names."""
    paths = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "data" / "README.md"]
    return [Document(path.relative_to(ROOT).as_posix()) for path in sorted(paths)]


def json_objects(text: str) -> list[dict[str, Any]]:
    """Return JSON objects that stand one after the other, each on one line or on several."""
    decoder, found, rest = json.JSONDecoder(), [], text.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        found.append(value)
        rest = rest[end:].lstrip()
    return found
