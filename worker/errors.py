"""The worker's errors: each one says what was wrong, with which value, and what would be right."""

from typing import Literal, TypeAlias

__all__ = ["BadCommand", "BadImage", "BrokerError", "Reason", "SettingsError", "WorkerError"]

Reason: TypeAlias = Literal[
    "undecodable",
    "bad-shape",
    "out-of-range",
    "unknown-content-type",
    "empty",
    "too-large",
    "too-many-pixels",
]
"""Why a message is not an image; docs/images.md says when each is given."""


class WorkerError(Exception):
    """Base of everything that the worker raises on purpose."""


class SettingsError(WorkerError):
    """A setting is unknown or has a wrong value; the worker does not start."""


class BadImage(WorkerError):  # noqa: N818 - it is the message that is bad, not the worker
    """A message on the images topic cannot be classified and becomes a dead letter.

    Attributes:
        reason: The dead letter's header and a metric carry it.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class BadCommand(WorkerError):  # noqa: N818 - it is the command that is bad, not the worker
    """A command cannot be done; the events topic says why.

    Attributes:
        command_id: The id that the command carried, or None when it had none that could be read.
    """

    def __init__(self, message: str, *, command_id: str | None = None) -> None:
        super().__init__(message)
        self.command_id = command_id


class BrokerError(WorkerError):
    """The Kafka broker does not answer, or refuses what the worker cannot do without."""
