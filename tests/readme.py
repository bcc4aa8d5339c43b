"""The README's fenced blocks, for the tests that run every one of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.project import ROOT

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and its text."""

    language: str
    text: str


def readme() -> str:
    return (ROOT / "README.md").read_text("utf-8")


def blocks() -> list[Block]:
    """Return all fenced blocks in their order."""
    return [Block(*found) for found in FENCE.findall(readme())]


def block(language: str, part: str) -> str:
    """Return the text of the one block in a language that has this part."""
    (found,) = [each.text for each in blocks() if each.language == language and part in each.text]
    return found
