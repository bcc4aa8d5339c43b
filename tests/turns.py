"""Who may run beside whom when pytest-xdist runs tests in several processes.

Tests marked `alone` run while no other test does: they assert times, or take the whole machine.
Every test holds a lock that many may share, and a lone one holds it for itself.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["folder_of_the_run", "in_parallel", "in_turn", "is_alone", "order"]

TIERS = ("acceptance", "integration", "checks", "unit")
"""The tier with the longest tests comes first: short ones fill up the end."""


def in_parallel() -> bool:
    """Return whether this process is one of several that run tests."""
    return "PYTEST_XDIST_WORKER" in os.environ


def folder_of_the_run(paths: pytest.TempPathFactory) -> Path:
    """Return a folder that is the same for all processes of a test run."""
    own = paths.getbasetemp()
    return own.parent if in_parallel() else own


@contextmanager
def in_turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Wait until a test may run, and let others wait as long as they must.

    Who waits to be alone holds the gate, so that no further test begins meanwhile.
    """
    with (folder / "gate").open("w") as gate, (folder / "turn").open("w") as turn:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(turn, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield  # closing a file releases its lock


def order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the tests as several processes take them up: long tiers first, lone tests last.

    pytest-xdist gives a class, or the functions of a file, to one process; so a class or a file
    has only lone tests or none: else the others would wait for the end with them.

    Raises:
        pytest.UsageError: a class or file has both.
    """
    is_lone: dict[str, bool] = {}
    for item in items:
        unit = item.nodeid.partition("[")[0].rpartition("::")[0]
        if is_lone.setdefault(unit, is_alone(item)) is not is_alone(item):
            raise pytest.UsageError(
                f"{unit}: some tests are marked `alone`, others not; move those to a class"
            )
    return sorted(items, key=lambda item: (is_alone(item), tier_of(item)))


def is_alone(item: pytest.Item) -> bool:
    """Return whether a test runs while no other does."""
    return item.get_closest_marker("alone") is not None


def tier_of(item: pytest.Item) -> int:
    """Return the place of a test's tier in the order."""
    parts = item.nodeid.split("/")
    return TIERS.index(parts[1]) if len(parts) > 1 and parts[1] in TIERS else len(TIERS)
