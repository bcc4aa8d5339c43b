"""The figures of one route, for logs, metrics and the watchdog."""

import time
from dataclasses import dataclass, field

__all__ = ["Stats"]

PROBLEM_S = 90.0
"""A problem that has not come again for this time has passed; requests time out after 60 s."""


@dataclass
class Stats:
    """Counted by the route's threads, read by any thread."""

    quiet_s: float
    """A route whose messages nobody confirms for this time counts as waiting."""
    mirrored: int = 0
    dead_letters: int = 0
    held_back: int = 0
    """Messages too large for Kafka and for its dead letters; they stay in the subscription."""
    skipped: int = 0
    """Messages that the route filters out, that come from its far end, or that came before."""
    failures: int = 0
    """Requests that failed and were tried again."""
    outstanding: int = 0
    """Messages that were taken and are not confirmed yet."""
    lag: int = 0
    """Messages that are still in Kafka; unknown on a route to Kafka."""
    dead_letters_problem: str = ""
    """Why dead letters are not stored; messages before and after them then wait too."""
    progressed_at: float = field(default_factory=time.monotonic)
    _problem: str = ""
    _problem_at: float = 0.0

    @property
    def problem(self) -> str:
        """Why a request failed lately; empty when none did."""
        return self._problem if time.monotonic() - self._problem_at < PROBLEM_S else ""

    @property
    def cause(self) -> tuple[str, str]:
        """Why the route waits at the moment: the kind, and the words; empty when it does not."""
        if problem := self.problem:
            return "failure", problem
        if self.dead_letters_problem:
            return "dead letters", self.dead_letters_problem
        quiet_s = time.monotonic() - self.progressed_at
        if self.outstanding and quiet_s > self.quiet_s:
            return "silence", f"the other side confirmed nothing for {quiet_s:.0f} s"
        return "", ""

    @property
    def waiting_for(self) -> str:
        """The reason for which the route waits at the moment; empty when it does not wait."""
        return self.cause[1]

    def record_failure(self, problem: str) -> None:
        """Count a request that failed and is tried again."""
        self.failures += 1
        self._problem, self._problem_at = problem, time.monotonic()

    def record_answer(self) -> None:
        """Note that the other side answers, so that the last problem has passed."""
        self._problem = ""

    def record_progress(self, mirrored: int = 0) -> None:
        """Note that messages were confirmed, and how many of them were mirrored."""
        self.mirrored += mirrored
        self.progressed_at = time.monotonic()
        self.record_answer()

    def stalled_s(self) -> float:
        """Return for how many seconds the route has had work and finished none of it."""
        if not self.outstanding and not self.waiting_for:
            self.progressed_at = time.monotonic()
        return time.monotonic() - self.progressed_at
