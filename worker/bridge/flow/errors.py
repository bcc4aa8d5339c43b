"""The error that keeps the bridge from starting or from going on."""

from worker.errors import WorkerError

__all__ = ["BridgeError"]


class BridgeError(WorkerError):
    """A route cannot be served; says which, why, and what to do."""
