"""The environment variables DARKROOM_BENCH_..., which shorten or lengthen a benchmark."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def setting(name: str, default: int) -> int:
    """Return a number, such as DARKROOM_BENCH_ROUNDS."""
    return int(os.environ.get(f"DARKROOM_BENCH_{name}", str(default)))


def words(name: str, default: str) -> list[str]:
    """Return words separated by commas, such as DARKROOM_BENCH_PARTS=speed,start."""
    return os.environ.get(f"DARKROOM_BENCH_{name}", default).split(",")
