"""What can go wrong in the fake Pub/Sub, on order."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

__all__ = ["Faults"]


@dataclass
class Faults:
    """What goes wrong, changed at any time from any thread."""

    publish_errors: list[grpc.StatusCode] | None = None
    """The next publish requests fail with these, one each."""
    publish_error_rate: float = 0.0
    """This share of the publish requests fails with UNAVAILABLE or DEADLINE_EXCEEDED, one half
    of them after their messages were taken, as after a lost answer."""
    acknowledge_error_rate: float = 0.0
    """The same for acknowledgements."""
    extend_error_rate: float = 0.0
    """The same for new deadlines (ModifyAckDeadline)."""
    stream_error_rate: float = 0.0
    """This share of the streaming pulls fails with one of the two when it is opened."""
    cut_streams_every_s: float | None = None
    """A streaming pull is ended with UNAVAILABLE when it is this old."""
    acknowledge_delay_s: float = 0.0
    publish_delay_s: float = 0.0
    refuse: Callable[[Any], bool] | None = None
    """A publish request with such a message is refused as a whole with INVALID_ARGUMENT."""
    refuses_credentials: bool = False
    """Every request fails with UNAUTHENTICATED."""
    is_down: bool = False
    """Every request fails with UNAVAILABLE and every stream ends."""
