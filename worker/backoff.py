"""The delays between failed attempts; everything in the worker that tries again takes them here."""

import random
from collections.abc import Callable

__all__ = ["Backoff"]

MOST_DOUBLINGS = 30  # 2.0**1024 is an overflow, and an outage may be long


class Backoff:
    """Delays that double from the first to the longest, until an attempt succeeds.

    Each delay is shortened to a random share between half and all of it, so that the workers that
    an outage has cut off do not all come back at the same moment.
    """

    def __init__(
        self,
        first_s: float,
        longest_s: float,
        *,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Begin without a failure.

        Args:
            first_s: Seconds after the first failure.
            longest_s: Seconds that no delay exceeds.
            jitter: Returns a number between two others, by which a delay is multiplied.
        """
        self._first_s = first_s
        self._longest_s = longest_s
        self._jitter = jitter
        self.failures = 0
        """Failed attempts since the last success."""

    def next_delay_s(self) -> float:
        """Count a failed attempt, and return how many seconds to wait before the next one."""
        delay_s = self._first_s * 2.0 ** min(self.failures, MOST_DOUBLINGS)
        self.failures += 1
        return min(delay_s, self._longest_s) * self._jitter(0.5, 1.0)

    def reset(self) -> None:
        """Begin with the first delay again, because an attempt has succeeded."""
        self.failures = 0
