"""Waiting for an event with a deadline, instead of for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["wait_until"]

POLL_S = 0.02

T = TypeVar("T")


def wait_until(
    what: str, check: Callable[[], T | None], timeout_s: float, *, poll_s: float = POLL_S
) -> T:
    """Poll until `check` returns something true, and return it.

    Args:
        what: names in the error what was waited for, such as "predictions".
        check: called again and again.
        timeout_s: seconds after which the waiting is given up.
        poll_s: seconds between two calls.

    Raises:
        TimeoutError: nothing true was returned within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if found := check():
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} within {timeout_s:g} s")
        time.sleep(poll_s)
