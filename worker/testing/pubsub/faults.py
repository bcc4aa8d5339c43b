"""Faults that the fake Pub/Sub can be told to have."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

__all__ = ["Faults"]


@dataclass
class Faults:
    """The faults of the moment; any thread may change them at any time."""

    publish_errors: list[grpc.StatusCode] | None = None
    """The codes with which the next publish requests fail, one each."""
    publish_error_rate: float = 0.0
    """Share of the publish requests that fail. Half of them fail with UNAVAILABLE; the others fail
    with DEADLINE_EXCEEDED after their messages were accepted, as when an answer is lost."""
    acknowledge_error_rate: float = 0.0
    """Share of the acknowledgements that fail, in the same way."""
    extend_error_rate: float = 0.0
    """Share of the new deadlines (ModifyAckDeadline) that fail, in the same way."""
    stream_error_rate: float = 0.0
    """Share of the streaming pulls that fail with one of the two codes when they are opened."""
    cut_streams_every_s: float | None = None
    """Age at which a streaming pull is ended with UNAVAILABLE; None for never."""
    acknowledge_delay_s: float = 0.0
    publish_delay_s: float = 0.0
    refuse: Callable[[Any], bool] | None = None
    """Tells which messages are refused; the whole request then fails with INVALID_ARGUMENT."""
    refuses_credentials: bool = False
    """Every request fails with UNAUTHENTICATED."""
    is_down: bool = False
    """Every request fails with UNAVAILABLE and every stream ends."""
