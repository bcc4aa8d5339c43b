"""What a misspelt name was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(word: object, known: Iterable[str], *, prefix: str = "") -> str:
    """Return "; did you mean NAME?" for the known name that is most like a word, else "".

    Upper and lower case, and `-` and `_`, count as the same.

    Args:
        word: What was written.
        known: The names that would be right.
        prefix: Shown before the name; it does not count in the comparison.
    """
    name_of = {_folded(name): name for name in known}
    close = difflib.get_close_matches(_folded(str(word)), name_of, n=1)
    return f"; did you mean {prefix}{name_of[close[0]]}?" if close else ""


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")
