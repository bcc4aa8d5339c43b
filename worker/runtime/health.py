"""Whether the worker lives and serves, told truthfully."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from worker.images.deployment import Deployment
from worker.runtime.watchdog import Watchdog

__all__ = ["WorkerHealth"]


class WorkerHealth:
    """What the pages under `/health` tell."""

    def __init__(
        self,
        watchdog: Watchdog,
        deployment: Deployment,
        *,
        is_in_group: Callable[[], bool],
        partitions: Callable[[], Sequence[int]],
    ) -> None:
        self._watchdog = watchdog
        self._deployment = deployment
        self._is_in_group = is_in_group
        self._partitions = partitions

    def is_live(self) -> bool:
        """Whether nothing keeps the worker from its work; what lasts ends it anyway."""
        return not self._watchdog.problems

    def is_ready(self) -> bool:
        """Whether it has its share of the partitions, and serves or waits for a first model."""
        is_settled = self._deployment.state in ("serving", "waiting")
        return self.is_live() and self._is_in_group() and is_settled

    def details(self) -> Mapping[str, Any]:
        """Return the problems, the partitions and what is deployed."""
        deployed = self._deployment.current
        return {
            "problems": list(self._watchdog.problems),
            "partitions": list(self._partitions()),
            "deployment": self._deployment.state,
            "model": deployed.model_dump() if deployed else None,
        }
