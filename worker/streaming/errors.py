"""What goes wrong between a payload and its broker."""

from worker.errors import WorkerError

__all__ = ["StreamingError"]


class StreamingError(WorkerError):
    """A payload, a param or a broker is not as it has to be; says which and what to do."""
