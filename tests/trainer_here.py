"""The trainer's commands in this process, which has imported everything."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from trainer.cli import main

__all__ = ["run_here"]


def run_here(folder: Path, words: Sequence[object]) -> CompletedProcess[str]:
    """Run `python -m trainer WORDS` in a folder, and return what it says and its exit code."""
    said, told = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(told),
        pytest.raises(SystemExit) as ended,
    ):
        main([str(word) for word in words])
    code = int(ended.value.code or 0)
    return CompletedProcess(words, code, said.getvalue(), told.getvalue())
