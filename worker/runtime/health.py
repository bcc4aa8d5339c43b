"""Whether the worker lives and serves, by what its parts say of themselves."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from worker.part import Check
from worker.runtime.watchdog import Watchdog

__all__ = ["Health"]


class Health:
    """What the pages under `/health` tell.

    Args:
        watchdog: Knows what keeps the worker from its work.
        readiness: Checks that say why the worker does not serve yet.
        details: Further facts by name, read when somebody asks.
    """

    def __init__(
        self,
        watchdog: Watchdog,
        readiness: Sequence[Check],
        details: Mapping[str, Callable[[], Any]],
    ) -> None:
        self._watchdog = watchdog
        self._readiness = readiness
        self._details = details

    def is_live(self) -> bool:
        """Whether nothing keeps the worker from its work; a problem that lasts ends it anyway."""
        return not self._watchdog.problems

    def is_ready(self) -> bool:
        """Whether the worker has its share of the partitions, and serves or waits for a model."""
        return self.is_live() and not self._reasons()

    def details(self) -> Mapping[str, Any]:
        """Return the problems, and what the parts tell."""
        problems = [*self._watchdog.problems, *self._reasons()]
        return {"problems": problems, **{name: read() for name, read in self._details.items()}}

    def _reasons(self) -> list[str]:
        return [reason for check in self._readiness if (reason := check())]
