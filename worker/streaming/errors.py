"""The error of the streaming functions."""

from worker.errors import WorkerError

__all__ = ["StreamingError"]


class StreamingError(WorkerError):
    """A payload, a param or a broker cannot be used; says which, why, and what to do."""
